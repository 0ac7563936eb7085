//go:build ignore

#include "decode.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "memory.h"

// ---- text

std::vector<std::string> split(const std::string& text, char separator) {
	std::vector<std::string> out;
	std::string current;
	int depth = 0;
	for (char c : text) {
		if (c == '{' || c == '[') depth++;
		if (c == '}' || c == ']') depth--;
		if (c == separator && depth == 0) {
			out.push_back(current);
			current.clear();
		} else if (!isspace(c))
			current += c;
	}
	if (!current.empty()) out.push_back(current);
	return out;
}

u64 parse_number(const std::string& t) {
	try {
		if (t.size() > 2 && t[0] == '0' && strchr("fFdD", t[1])) return std::stoull(t.substr(2), nullptr, 16);
		std::string digits = t;
		if (digits.back() == 'U') digits.pop_back();
		return digits[0] == '-' ? (u64)std::stoll(digits, nullptr, 0) : std::stoull(digits, nullptr, 0);
	} catch (const std::logic_error&) {
		fail(INVALID_PTX, "%s is not a number", t.c_str());
	}
}

u8 width_of_type(const std::string& t) {
	static const std::map<std::string, u8> widths = {
		{"pred", 4}, {"b8", 1},  {"u8", 1},  {"s8", 1},  {"b16", 2}, {"u16", 2}, {"s16", 2},  {"f16", 2},    {"bf16", 2},
		{"b32", 4},  {"u32", 4}, {"s32", 4}, {"f32", 4}, {"b64", 8}, {"u64", 8}, {"s64", 8},  {"f64", 8},    {"f16x2", 4},
		{"bf16x2", 4},
	};
	auto it = widths.find(t);
	if (it == widths.end()) fail(INVALID_PTX, "type .%s is not supported", t.c_str());
	return it->second;
}

// ---- names

static u64 align_up(u64 n, u64 align) { return (n + align - 1) / align * align; }

void Names::enter(Kernel* k) {
	kernel = k;
	scopes = {{}};
	symbols.clear(), parameters.clear(), constants.clear(), specials.clear();
	scratch(8);  // plane 0 stays unused
}

Register Names::scratch(u8 width) {
	const u8 cell = width == 8 ? 8 : 4;
	const Register r = {kernel->register_bytes, width};
	kernel->register_bytes += 32 * cell;
	return r;
}

void Names::declare_register(const std::string& name, u8 width) { scopes.back()[name] = scratch(width); }

void Names::declare_shared(const std::string& name, u64 size, u64 align) {
	const u64 at = align_up(kernel->static_shared, align);
	symbols[name] = SHARED_BASE + at;
	kernel->static_shared = (u32)(at + size);
}

void Names::declare_local(const std::string& name, u64 size, u64 align) {
	const u64 at = align_up(kernel->local_bytes, align);
	symbols[name] = at;
	kernel->local_bytes = (u32)(at + size);
}

bool Names::find_register(const std::string& name, Register& r) {
	for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
		auto it = scope->find(name);
		if (it == scope->end()) continue;
		r = it->second;
		return true;
	}
	return false;
}

bool Names::find_symbol(const std::string& name, u64& address) {
	if (auto shared = module_shared.find(name); shared != module_shared.end() && !symbols.count(name))
		declare_shared(name, shared->second.first, shared->second.second);
	for (auto* table : {&symbols, &globals}) {
		auto it = table->find(name);
		if (it == table->end()) continue;
		address = it->second;
		return true;
	}
	return false;
}

bool Names::find_parameter(const std::string& name, u64& offset) const {
	auto it = parameters.find(name);
	if (it == parameters.end()) return false;
	offset = it->second;
	return true;
}

Register Names::special(const std::string& name, u8 width) {
	auto [it, fresh] = specials.try_emplace({name, width});
	if (fresh) {
		it->second = scratch(width);
		kernel->specials.push_back({it->second.plane, width, name});
	}
	return it->second;
}

// An address in shared memory may be asked for in 4 or 8 bytes; all others have 4.
bool Names::find_special(const std::string& name, u8 width, Register& r) {
	static const std::set<std::string> known = {
		"%tid.x",    "%tid.y",    "%tid.z",    "%ntid.x",   "%ntid.y",       "%ntid.z",       "%ctaid.x",      "%ctaid.y",      "%ctaid.z",      "%nctaid.x", "%nctaid.y",
		"%nctaid.z", "%laneid",   "%warpid",   "%smid",     "%lanemask_lt",  "%lanemask_le",  "%lanemask_eq",  "%lanemask_gt",  "%lanemask_ge",
	};
	if (dynamic_shared.count(name)) {
		r = special(DYNAMIC_SHARED, width == 8 ? 8 : 4);
		return true;
	}
	if (!known.count(name)) return false;
	r = special(name, 4);
	return true;
}

Register Names::constant(u64 value, u8 width) {
	const u8 cell = width < 2 ? 2 : width;
	auto [it, fresh] = constants.try_emplace({value, cell}, 0);
	if (fresh) {
		it->second = scratch(cell).plane;
		kernel->constants.push_back({it->second, cell, value});
	}
	return {it->second, cell};
}

// ---- one instruction

Decoder::Decoder(Names& names, const std::string& opcode, const std::string& operands)
	: parts(split(opcode, '.')), args(split(operands, ',')), names_(names), text_(opcode + " " + operands), taken_(parts.size()) {
	taken_[0] = true;
}

void Decoder::refuse(const std::string& what) { fail(INVALID_PTX, "%s: %s", what.c_str(), text_.c_str()); }

bool Decoder::take(const char* part) {
	for (size_t i = 1; i < parts.size(); i++) {
		if (taken_[i] || parts[i] != part) continue;
		taken_[i] = true;
		return true;
	}
	return false;
}

int Decoder::take_one(std::initializer_list<const char*> choices) {
	int index = 0;
	for (const char* choice : choices) {
		if (take(choice)) return index;
		index++;
	}
	return -1;
}

std::string Decoder::take_last() {
	for (size_t i = parts.size(); i-- > 1;) {
		if (taken_[i]) continue;
		taken_[i] = true;
		return parts[i];
	}
	refuse("the opcode is incomplete");
}

u8 Decoder::take_vector() { return take("v4") ? 4 : take("v2") ? 2 : 1; }

void Decoder::refuse_leftovers() {
	for (size_t i = 0; i < parts.size(); i++)
		if (!taken_[i]) refuse("not supported: ." + parts[i] + " of " + parts[0]);
}

const std::string& Decoder::arg(size_t n) {
	if (n >= args.size()) refuse("an operand is missing");
	return args[n];
}

Register Decoder::named(const std::string& name) {
	Register r;
	if (!names_.find_register(name, r)) refuse("unknown register " + name);
	return r;
}

void Decoder::destination(size_t n) {
	const Register r = reg(n);
	insn.d = r.plane;
	insn.dw = r.width;
}

Register Decoder::operand(const std::string& t, u8 width) {
	Register r;
	u64 address;
	if (names_.find_register(t, r) || names_.find_special(t, width, r)) return r;
	if (names_.find_symbol(t, address)) return names_.constant(address, width);
	if (t == "WARP_SZ") return names_.constant(32, width);
	if (!isdigit(t[0]) && t[0] != '-') refuse("unknown operand " + t);
	return names_.constant(number(t), width);
}

Plane Decoder::predicate(size_t n, bool& negated) {
	const std::string& t = arg(n);
	negated = t[0] == '!';
	return named(negated ? t.substr(1) : t).plane;
}

// [base], [base+offset] or [offset], where base is a register or a variable.
Address Decoder::address(size_t n) {
	const std::string& t = arg(n);
	if (t.size() < 3 || t[0] != '[') refuse("an address was expected, not " + t);
	std::string base = t.substr(1, t.size() - 2);
	Address a;
	if (auto plus = base.find('+'); plus != base.npos) {
		a.offset = (i64)number(base.substr(plus + 1));
		base.resize(plus);
	}
	Register r;
	u64 value;
	if (names_.find_parameter(base, value) || names_.find_symbol(base, value)) a.offset += (i64)value;
	else if (names_.find_register(base, r) || names_.find_special(base, 8, r)) a.plane = r.plane, a.width = r.width;
	else a.offset += (i64)number(base);
	return a;
}

std::vector<std::string> Decoder::list(size_t n) {
	const std::string& t = arg(n);
	return t[0] == '{' ? split(t.substr(1, t.size() - 2), ',') : std::vector<std::string>{t};
}

u64 Decoder::number(const std::string& t) {
	if (t.empty() || (!isdigit(t[0]) && t[0] != '-')) refuse("unknown operand " + t);
	return parse_number(t);
}

Decode decode_function(const std::string& name) {
	static const std::map<std::string, Decode> table = {
		{"ld", decode_load}, {"ldu", decode_load}, {"st", decode_store},
		{"atom", decode_atomic}, {"red", decode_atomic},
		{"cp", decode_cp},
		{"ldmatrix", decode_matrix}, {"stmatrix", decode_matrix}, {"mma", decode_mma},
		{"shfl", decode_shuffle}, {"vote", decode_vote}, {"redux", decode_reduction}, {"activemask", decode_activemask},
		{"bar", decode_barrier}, {"barrier", decode_barrier},
		{"membar", decode_fence}, {"fence", decode_fence}, {"prefetch", decode_fence}, {"nanosleep", decode_fence},
		{"trap", decode_trap},
		{"mov", decode_move}, {"cvta", decode_cvta}, {"cvt", decode_convert},
		{"setp", decode_compare}, {"selp", decode_select},
		{"add", decode_arithmetic}, {"sub", decode_arithmetic}, {"mul", decode_arithmetic}, {"mad", decode_arithmetic},
		{"fma", decode_arithmetic}, {"div", decode_arithmetic}, {"min", decode_arithmetic}, {"max", decode_arithmetic},
		{"abs", decode_arithmetic}, {"neg", decode_arithmetic}, {"copysign", decode_arithmetic},
		{"rem", decode_arithmetic},
		{"and", decode_bits}, {"or", decode_bits}, {"xor", decode_bits}, {"not", decode_bits}, {"shl", decode_bits},
		{"shr", decode_bits}, {"clz", decode_bits}, {"popc", decode_bits}, {"bfind", decode_bits}, {"brev", decode_bits}, {"bfe", decode_bits},
		{"bfi", decode_bits}, {"bmsk", decode_bits}, {"prmt", decode_bits}, {"lop3", decode_bits}, {"shf", decode_bits},
		{"ex2", decode_special}, {"lg2", decode_special}, {"rcp", decode_special}, {"rsqrt", decode_special},
		{"sqrt", decode_special}, {"sin", decode_special}, {"cos", decode_special}, {"tanh", decode_special},
	};
	auto it = table.find(name);
	return it == table.end() ? nullptr : it->second;
}
