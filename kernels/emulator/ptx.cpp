//go:build ignore

// PTX text -> Module. Unknown instructions are refused when the module is loaded, with their line.
#include "machine.h"
#include "ops.h"
#include <cstring>
#include <sstream>

namespace {
struct Reg {
	u32 plane;
	u8 width;
};
struct Parser {
	Module& m;
	explicit Parser(Module& module) : m(module) {}
	Kernel* k = nullptr;
	std::map<std::string, u64> module_shared, module_symbols;  // symbol -> address
	std::map<std::string, u64> symbols;                        // of the kernel: shared, local
	std::map<std::string, u32> param_offset;
	std::vector<std::map<std::string, Reg>> scopes;
	std::vector<std::pair<u32, std::string>> fixups;
	std::map<std::string, u32> constant_planes;
	u32 line = 0, source = 0;
	std::string dynamic_name;

	[[noreturn]] void bad(const std::string& what) { fail(INVALID_PTX, "PTX line %u: %s", line, what.c_str()); }

	u32 plane(u8 width) {
		u32 at = k->register_bytes;
		k->register_bytes += 32 * (width == 8 ? 8 : 4);
		return at;
	}
	Reg reg(const std::string& name) {
		for (auto s = scopes.rbegin(); s != scopes.rend(); ++s)
			if (auto it = s->find(name); it != s->end()) return it->second;
		bad("unknown register " + name);
	}
	u64 number(const std::string& t) {
		if (t[0] == '0' && (t[1] == 'f' || t[1] == 'F')) return std::stoull(t.substr(2), nullptr, 16);
		if (t[0] == '0' && (t[1] == 'd' || t[1] == 'D')) return std::stoull(t.substr(2), nullptr, 16);
		if (t[0] == '-') return (u64)std::stoll(t, nullptr, 0);
		return std::stoull(t, nullptr, 0);
	}
	bool symbol(const std::string& t, u64& address) {
		for (auto* s : {&symbols, &module_shared, &module_symbols})
			if (auto it = s->find(t); it != s->end()) return address = it->second, true;
		return false;
	}
	u32 constant(u64 value, u8 width) {
		auto key = std::to_string(value) + "/" + std::to_string(width);
		if (auto it = constant_planes.find(key); it != constant_planes.end()) return it->second;
		u32 p = plane(width);
		k->constants.push_back({p, width, value});
		return constant_planes[key] = p;
	}
	// a source operand as a plane of the given width
	u32 source_operand(const std::string& t, u8 width) {
		if (t[0] == '%') {
			auto dot = t.find('.');
			static const char* special[] = {"%tid", "%ntid", "%ctaid", "%nctaid", "%laneid", "%warpid", "%lanemask", "%clock", "%smid"};
			for (auto s : special)
				if (t.compare(0, strlen(s), s) == 0 && (dot != t.npos || t == s || !strncmp(s, "%lanemask", 9) || !strncmp(s, "%clock", 6))) {
					u32 p = plane(8);
					k->specials.push_back({p, t});
					return p;
				}
			return reg(t).plane;
		}
		for (auto s = scopes.rbegin(); s != scopes.rend(); ++s)
			if (auto it = s->find(t); it != s->end()) return it->second.plane;
		u64 a;
		if (symbol(t, a)) return constant(a, width);
		if (t == "WARP_SZ") return constant(32, width);
		if (!(isdigit(t[0]) || t[0] == '-')) bad("unknown operand " + t);
		return constant(number(t), width);
	}
	void address(const std::string& t, Insn& i) {  // [base+offset]
		std::string s = t.substr(1, t.size() - 2), base = s;
		i64 off = 0;
		if (auto plus = s.find('+'); plus != s.npos) base = s.substr(0, plus), off = (i64)number(s.substr(plus + 1));
		i.imm = off;
		u64 a;
		if (auto it = param_offset.find(base); it != param_offset.end()) i.imm += it->second, i.aw = 0;
		else if (base[0] == '%' || (!isdigit(base[0]) && !symbol(base, a))) i.a = reg(base).plane, i.aw = reg(base).width;
		else if (symbol(base, a)) i.imm += (i64)a, i.aw = 0;
		else i.imm += (i64)number(base), i.aw = 0;
	}
	static std::vector<std::string> split(const std::string& s, char sep) {
		std::vector<std::string> out;
		int depth = 0;
		std::string cur;
		for (char c : s) {
			if (c == '{' || c == '[') depth++;
			if (c == '}' || c == ']') depth--;
			if (c == sep && !depth) out.push_back(cur), cur.clear();
			else if (!isspace(c)) cur += c;
		}
		if (!cur.empty()) out.push_back(cur);
		return out;
	}
	std::vector<std::string> vec(const std::string& t) { return t[0] == '{' ? split(t.substr(1, t.size() - 2), ',') : std::vector<std::string>{t}; }
	static u8 width_of(const std::string& t) {
		if (t == "pred") return 4;
		if (t.find("x2") != t.npos) return 4;
		if (t == "bf16") return 2;
		if (t == "b128") return 16;
		return std::stoi(t.substr(1)) / 8;
	}

	// .global/.const/.shared/.local variables
	void variable(const std::string& text, bool in_kernel) {
		std::istringstream in(text);
		std::string w, space, name, type;
		u64 align = 1, size = 1;
		bool ext = false;
		while (in >> w) {
			if (w == ".extern") ext = true;
			else if (w == ".visible" || w == ".weak" || w == ".common") continue;
			else if (w == ".align") in >> align;
			else if (w == ".global" || w == ".const" || w == ".shared" || w == ".local") space = w.substr(1);
			else if (w[0] == '.') type = w.substr(1);
			else { name = w; break; }
		}
		std::string init;
		if (auto eq = text.find('='); eq != text.npos) init = text.substr(eq + 1);
		size = width_of(type);
		u64 elem = size;
		bool dynamic = false;
		if (auto b = name.find('['); b != name.npos) {
			auto n = name.substr(b + 1);
			name = name.substr(0, b);
			if (n[0] == ']') dynamic = true, size = 0;
			else size *= std::stoull(n);
		}
		if (align < elem) align = elem;
		if (space == "shared") {
			if (dynamic && ext) {
				module_shared[name] = 0, dynamic_name = name;  // placed after the static variables at launch
				return;
			}
			if (!in_kernel) bad("module scope .shared variables are not supported: " + name);
			k->static_shared = (k->static_shared + align - 1) / align * align;
			symbols[name] = SHARED_BASE + k->static_shared;
			k->static_shared += size;
		} else if (space == "local") {
			k->local_bytes = (k->local_bytes + align - 1) / align * align;
			symbols[name] = k->local_bytes;
			k->local_bytes += size;
		} else {
			u64 a = allocate(size, name.c_str());
			std::vector<u8> bytes(size, 0);
			if (auto brace = init.find('{'); brace != init.npos) {
				auto items = split(init.substr(brace + 1, init.find('}') - brace - 1), ',');
				for (size_t j = 0; j < items.size(); j++) {
					u64 x = number(items[j]);
					memcpy(&bytes[j * elem], &x, elem);
				}
			}
			memcpy((void*)(a - DEVICE), bytes.data(), size);
			mark_valid(a, size);
			module_symbols[name] = a;
			m.globals[name] = {a, size};
		}
	}

	void registers(const std::string& text) {  // .reg .b32 %r<10>, %x;
		std::istringstream in(text);
		std::string w, type;
		in >> w >> type;
		u8 width = width_of(type.substr(1));
		std::string rest;
		std::getline(in, rest);
		for (auto& name : split(rest, ',')) {
			if (auto lt = name.find('<'); lt != name.npos) {
				int n = std::stoi(name.substr(lt + 1));
				for (int j = 0; j < n; j++) scopes.back()[name.substr(0, lt) + std::to_string(j)] = {plane(width), width};
			} else
				scopes.back()[name] = {plane(width), width};
		}
	}

	void instruction(std::string text) {
		Insn i;
		i.line = line, i.source = source;
		std::istringstream in(text);
		std::string op;
		in >> op;
		if (op[0] == '@') {
			i.negate = op[1] == '!';
			i.pred = (int)reg(op.substr(i.negate ? 2 : 1)).plane;
			in >> op;
		}
		std::string rest;
		std::getline(in, rest);
		auto args = split(rest, ',');
		auto parts = split(op, '.');
		auto has = [&](const char* p) {
			for (auto& x : parts)
				if (x == p) return true;
			return false;
		};
		const std::string& name = parts[0];
		const std::string type = parts.back();
		auto dst = [&](const std::string& t) {
			Reg r = reg(t);
			i.d = r.plane, i.dw = r.width;
		};
		auto operand = [&](size_t n, u8 w) -> u32 {
			if (n >= args.size()) bad("operand missing in " + text);
			return source_operand(args[n], w);
		};
		i.space = has("global") ? GLOBAL : has("shared") || has("shared::cta") ? SHARED_SPACE : has("local") ? LOCAL_SPACE : has("param") ? PARAM : has("const") ? GLOBAL : GENERIC;

		if (name == "bra") {
			i.kind = BRANCH, i.run = nullptr, i.mode = 1;
			fixups.push_back({(u32)k->code.size(), args.at(0)});
		} else if (name == "ret" || name == "exit") {
			i.kind = BRANCH, i.mode = 2;
		} else if (name == "trap") {
			i.kind = BRANCH, i.run = op_trap;
		} else if (name == "ld" || name == "ldu") {
			auto d = vec(args.at(0));
			i.n = d.size(), i.width = width_of(type), i.is_signed = type[0] == 's';
			for (size_t j = 0; j < d.size(); j++) i.v[j] = reg(d[j]).plane, i.dw = reg(d[j]).width;
			address(args.at(1), i);
			if (has("nc")) i.mode = 9;
			i.kind = i.space == SHARED_SPACE ? LD_SHARED : i.space == PARAM ? ALU : LD_GLOBAL, i.run = op_load;
		} else if (name == "st") {
			address(args.at(0), i);
			auto s = vec(args.at(1));
			i.n = s.size(), i.width = width_of(type);
			for (size_t j = 0; j < s.size(); j++) i.v[j] = source_operand(s[j], i.width);
			i.kind = i.space == SHARED_SPACE ? ST_SHARED : ST_GLOBAL, i.run = op_store;
		} else if (name == "atom" || name == "red") {
			bool ret = name == "atom";
			if (ret) dst(args.at(0));
			else i.mode = 1;
			address(args.at(ret), i);
			i.width = width_of(type);
			i.b = operand(ret + 1, i.width);
			if (args.size() > ret + 2u) i.c = operand(ret + 2, i.width);
			i.kind = ATOMIC, i.run = atomic_op(parts, type);
		} else if (name == "cp" && has("async")) {
			i.kind = CP_ASYNC;
			if (has("bulk")) bad("not supported: " + op);
			if (has("commit_group")) i.run = op_cp_commit;
			else if (has("wait_group")) i.run = op_cp_wait, i.imm = (i64)number(args.at(0));
			else if (has("wait_all")) i.run = op_cp_wait, i.imm = 0, i.mode = 1;
			else {
				Insn s;
				address(args.at(0), i);
				address(args.at(1), s);
				i.b = s.a, i.e = s.aw, i.target = (u32)s.imm;
				i.n = (u8)number(args.at(2));
				if (i.n != 16 && has("cg")) bad("cp.async.cg copies 16 bytes only");
				i.c = args.size() > 3 ? operand(3, 4) : constant(i.n, 4);
				i.run = op_cp_async;
			}
		} else if (name == "ldmatrix" || name == "stmatrix") {
			bool store = name == "stmatrix";
			auto d = vec(args.at(store));
			i.n = d.size(), i.trans = has("trans"), i.mode = store;
			for (size_t j = 0; j < d.size(); j++) i.v[j] = reg(d[j]).plane;
			address(args.at(!store), i);
			i.kind = LDMATRIX, i.run = op_matrix;
		} else if (name == "mma") {
			if (!has("m16n8k16") || parts[6] != "f32" || (parts[7] != "bf16" && parts[7] != "f16")) bad("not supported: " + op);
			auto d = vec(args.at(0)), a = vec(args.at(1)), b = vec(args.at(2)), c = vec(args.at(3));
			for (int j = 0; j < 4; j++) i.v[j] = reg(d[j]).plane, i.v2[j] = reg(a[j]).plane, i.v3[j] = reg(c[j]).plane;
			i.b = reg(b[0]).plane, i.c = reg(b[1]).plane, i.mode = parts[7] == "f16";
			i.kind = MMA, i.run = op_mma;
		} else if (name == "shfl") {
			auto bar = args.at(0).find('|');
			dst(args[0].substr(0, bar));
			i.v[1] = bar == std::string::npos ? 0 : reg(args[0].substr(bar + 1)).plane;
			i.trans = bar != std::string::npos;
			i.a = operand(1, 4), i.b = operand(2, 4), i.c = operand(3, 4), i.e = operand(4, 4);
			i.mode = parts[2] == "bfly" ? 0 : parts[2] == "down" ? 1 : parts[2] == "up" ? 2 : 3;
			i.kind = SHUFFLE, i.run = op_shfl;
		} else if (name == "vote") {
			dst(args.at(0));
			i.a = reg(args[1][0] == '!' ? args[1].substr(1) : args[1]).plane, i.trans = args[1][0] == '!', i.e = operand(2, 4);
			i.mode = parts[2] == "all" ? 0 : parts[2] == "any" ? 1 : 2;
			i.kind = SHUFFLE, i.run = op_vote;
		} else if (name == "activemask") {
			dst(args.at(0)), i.run = op_activemask;
		} else if (name == "bar" || name == "barrier") {
			i.kind = SYNC;
			if (has("warp")) i.run = op_syncwarp, i.e = operand(0, 4);
			else if (has("sync")) {
				i.a = operand(0, 4), i.n = args.size() > 1, i.b = i.n ? operand(1, 4) : 0, i.run = op_bar;
			} else bad("not supported: " + op);
		} else if (name == "membar" || name == "fence" || name == "prefetch" || name == "nanosleep" || name == "pragma") {
			i.kind = SYNC, i.run = op_nop;
		} else if (name == "mov") {
			auto d = vec(args.at(0)), s = vec(args.at(1));
			u8 w = width_of(type);
			if (d.size() > 1) {  // unpack
				i.n = d.size(), i.width = w / d.size(), i.a = source_operand(s[0], w);
				for (size_t j = 0; j < d.size(); j++) i.v[j] = d[j] == "_" ? plane(8) : reg(d[j]).plane;
				i.aw = w, i.run = op_unpack;
			} else if (s.size() > 1) {  // pack
				i.n = s.size(), i.width = w / s.size(), dst(d[0]);
				for (size_t j = 0; j < s.size(); j++) i.v[j] = source_operand(s[j], i.width);
				i.run = op_pack;
			} else {
				dst(d[0]);
				bool dynamic = args[1] == dynamic_name && !dynamic_name.empty();
				i.a = dynamic ? plane(8) : source_operand(s[0], w);
				if (dynamic) k->specials.push_back({i.a, w == 8 ? "dynamic64" : "dynamic32"});
				i.run = move_op(w);
			}
		} else if (name == "cvta") {
			dst(args.at(0));
			i.a = operand(1, 8), i.mode = has("to"), i.run = op_cvta, i.aw = width_of(type);
		} else if (name == "cvt") {
			dst(args.at(0));
			i.at = type_code(parts.back()), i.dt = type_code(parts[parts.size() - 2]);
			i.a = operand(1, width_of(parts.back()));
			if (args.size() > 2) i.b = operand(2, 4);
			i.mode = has("rzi") || has("rz") ? 1 : has("rmi") || has("rm") ? 2 : has("rpi") || has("rp") ? 3 : has("rni") ? 4 : 0;
			i.trans = has("sat"), i.run = cvt_op(i.dt, i.at);
		} else if (name == "setp" || name == "set") {
			if (name == "set") bad("not supported: " + op);
			auto bar = args.at(0).find('|');
			dst(args[0].substr(0, bar));
			if (bar != std::string::npos) bad("not supported: " + text);
			u8 w = width_of(type);
			i.a = operand(1, w), i.b = operand(2, w);
			if (args.size() > 3) {
				bool no = args[3][0] == '!';
				i.c = reg(no ? args[3].substr(1) : args[3]).plane, i.trans = no;
				i.mode = has("and") ? 1 : has("or") ? 2 : 3;
			}
			i.run = compare_op(parts[1], type);
		} else if (name == "selp") {
			dst(args.at(0));
			u8 w = width_of(type);
			i.a = operand(1, w), i.b = operand(2, w), i.c = operand(3, 4), i.run = select_op(w);
		} else {
			dst(args.at(0));
			u8 w = type == "pred" ? 4 : width_of(type);
			if (args.size() > 1) i.a = operand(1, w);
			if (args.size() > 2) i.b = operand(2, name == "shl" || name == "shr" || name == "bfe" ? 4 : w);
			if (args.size() > 3) i.c = operand(3, name == "bfi" || name == "bfe" ? 4 : has("wide") ? 2 * w : w);
			if (args.size() > 4) i.e = operand(4, 4);
			if (name == "lop3") i.imm = (i64)number(args.at(4));
			i.run = arithmetic_op(parts, type, i.kind);
		}
		if (!i.run && i.kind != BRANCH) bad("not supported: " + op);
		k->code.push_back(i);
	}

	void statement(std::string s) {
		while (!s.empty() && isspace(s[0])) s.erase(0, 1);
		while (!s.empty() && isspace(s.back())) s.pop_back();
		if (s.empty()) return;
		if (s.compare(0, 4, ".reg") == 0) registers(s);
		else if (s.compare(0, 7, ".shared") == 0 || s.compare(0, 6, ".local") == 0) variable(s, true);
		else if (s.compare(0, 7, ".pragma") == 0 || s.compare(0, 7, ".branch") == 0) return;
		else if (s[0] == '.') bad("not supported: " + s);
		else instruction(s);
	}

	void header(std::string s) {  // .visible .entry name( .param .u64 a, ... ) .maxntid 256, 1, 1
		auto open = s.find('('), close = s.find(')');
		std::istringstream in(s.substr(0, open));
		std::string w, name;
		while (in >> w) name = w;
		auto& slot = m.kernels[name];
		slot = std::make_unique<Kernel>();
		k = slot.get();
		k->name = name, k->files = &m.files;
		scopes = {{}}, symbols.clear(), param_offset.clear(), fixups.clear(), constant_planes.clear();
		plane(8);  // plane 0 stays unused
		std::string list = open == s.npos ? "" : s.substr(open + 1, close - open - 1), item;
		std::istringstream params(list);
		while (std::getline(params, item, ',')) {
			std::istringstream pi(item);
			std::string pname;
			u32 size = 0, align = 0;
			while (pi >> w) {
				if (w == ".param") continue;
				else if (w == ".ptr" || w == ".global" || w == ".restrict") continue;
				else if (w == ".align") pi >> align;
				else if (w[0] == '.') size = width_of(w.substr(1));
				else pname = w;
			}
			if (pname.empty()) continue;
			u32 elem = size;
			if (auto b = pname.find('['); b != pname.npos) size *= (u32)std::stoul(pname.substr(b + 1)), pname = pname.substr(0, b);
			if (align < elem) align = elem;
			k->param_bytes = (k->param_bytes + align - 1) / align * align;
			param_offset[pname] = k->param_bytes;
			k->params.push_back({k->param_bytes, size});
			k->param_bytes += size;
		}
		for (auto limit : {".maxntid", ".reqntid"}) {
			auto at = s.find(limit);
			if (at == s.npos) continue;
			u32 x = 1, y = 1, z = 1;
			sscanf(s.c_str() + at + 8, "%u, %u, %u", &x, &y, &z);
			k->max_threads = x * y * z;
		}
	}

	void run(const std::string& text) {
		std::string cur;
		bool in_body = false;
		int depth = 0, vec_depth = 0;
		std::istringstream in(text);
		std::string raw;
		while (std::getline(in, raw)) {
			line++;
			if (auto c = raw.find("//"); c != raw.npos) raw = raw.substr(0, c);
			size_t first = raw.find_first_not_of(" \t\r");
			if (first == raw.npos) continue;
			std::string body = raw.substr(first);
			if (cur.empty() || cur.find_first_not_of(" \n") == cur.npos) {
				if (body.compare(0, 8, ".version") == 0 || body.compare(0, 7, ".target") == 0 || body.compare(0, 13, ".address_size") == 0) continue;
				if (body.compare(0, 5, ".file") == 0) {
					auto q = body.find('"'), e = body.rfind('"');
					size_t n = std::stoul(body.substr(5));
					if (m.files.size() <= n) m.files.resize(n + 1);
					m.files[n] = body.substr(q + 1, e - q - 1);
					continue;
				}
				if (body.compare(0, 4, ".loc") == 0 && isspace(body[4])) {
					u32 f = 0, l = 0;
					sscanf(body.c_str(), ".loc %u %u", &f, &l);
					if (auto in_at = body.find("inlined_at"); in_at != body.npos) sscanf(body.c_str() + in_at, "inlined_at %u %u", &f, &l);
					source = f << 20 | l;
					continue;
				}
				if (body.compare(0, 8, ".section") == 0) return;  // debug sections end the code
			}
			for (size_t p = 0; p < body.size(); p++) {
				char c = body[p];
				if (!in_body) {
					if (c == ';') {
						if (cur.find('{') == cur.npos || cur.find('=') != cur.npos)
							if (cur.find(".entry") == cur.npos && cur.find(".func") == cur.npos) variable(cur, false);
						cur.clear();
					} else if (c == '{' && cur.find('=') == cur.npos) {
						if (cur.find(".func") != cur.npos) bad("device functions are not supported: inline them");
						header(cur);
						cur.clear(), in_body = true, depth = 1;
					} else cur += c;
				} else if (c == ';') statement(cur), cur.clear();
				else if (c == ':' && cur.find_first_of("[{") == cur.npos && (p + 1 >= body.size() || body[p + 1] != ':') && (p == 0 || body[p - 1] != ':')) {
					std::string label;
					for (char x : cur)
						if (!isspace(x)) label += x;
					k->labels[label] = (u32)k->code.size();
					cur.clear();
				} else if (c == '{' && cur.find_first_not_of(" \t\n") == cur.npos) depth++, scopes.push_back({}), cur.clear();
				else if (c == '{') vec_depth++, cur += c;
				else if (c == '}' && vec_depth) vec_depth--, cur += c;
				else if (c == '}') {
					cur.clear();
					if (--depth) {
						scopes.pop_back();
						continue;
					}
					Insn ret;
					ret.kind = BRANCH, ret.mode = 2;
					k->code.push_back(ret);
					for (auto& [at, label] : fixups) {
						auto it = k->labels.find(label);
						if (it == k->labels.end()) bad("unknown label " + label);
						k->code[at].target = it->second;
					}
					in_body = false;
				} else cur += c;
			}
			cur += ' ';
		}
	}
};
}  // namespace

std::unique_ptr<Module> parse(const std::string& ptx) {
	auto m = std::make_unique<Module>();
	Parser p(*m);
	p.run(ptx);
	if (m->kernels.empty()) fail(INVALID_PTX, "no kernel in this PTX");
	return m;
}
