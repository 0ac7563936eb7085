//go:build ignore

// Reads the text of a PTX module: its statements, variables and kernels. Instructions are
// left to decode.h. Names of files and lines come from .file and .loc.
#include <cstring>
#include <sstream>

#include "decode.h"
#include "memory.h"

namespace {

bool starts_with(const std::string& s, const char* prefix) { return s.compare(0, strlen(prefix), prefix) == 0; }

std::string trim(const std::string& s) {
	const size_t first = s.find_first_not_of(" \t\r\n");
	if (first == s.npos) return "";
	return s.substr(first, s.find_last_not_of(" \t\r\n") - first + 1);
}

// ".align 16 .b8 name[64] = {...}" and its like
struct Variable {
	std::string name, type, space, initial;
	u64 align = 1, size = 0, element = 0;
	bool is_extern = false, unsized = false;

	explicit Variable(const std::string& text) {
		std::istringstream in(text.substr(0, text.find('=')));
		if (auto equals = text.find('='); equals != text.npos) initial = trim(text.substr(equals + 1));
		for (std::string word; in >> word;) {
			if (word == ".extern") is_extern = true;
			else if (word == ".visible" || word == ".weak" || word == ".common" || word == ".ptr" || word == ".restrict") continue;
			else if (word == ".align") in >> align;
			else if (word == ".global" || word == ".const" || word == ".shared" || word == ".local" || word == ".param") space = word.substr(1);
			else if (word[0] == '.') type = word.substr(1);
			else name += word;
		}
		size = element = width_of_type(type);
		if (auto bracket = name.find('['); bracket != name.npos) {
			unsized = name[bracket + 1] == ']';
			size *= unsized ? 0 : parse_number(name.substr(bracket + 1, name.find(']') - bracket - 1));
			name.resize(bracket);
		}
		align = std::max(align, element);
	}
};

class Reader {
public:
	explicit Reader(Module& module) : module_(module) {}
	void read(const std::string& text);
	u32 line() const { return line_; }

private:
	Module& module_;
	Names names_;
	Kernel* kernel_ = nullptr;  // whose body is being read; null: between kernels
	std::map<std::string, u32> labels_;
	std::vector<std::pair<u32, std::string>> jumps_;  // instruction, label
	std::string pending_;                             // text of the statement so far
	u32 line_ = 0, file_ = 0, source_line_ = 0;
	int scope_depth_ = 0, brace_depth_ = 0;

	bool directive(const std::string& line);
	void module_character(char c);
	void kernel_character(const std::string& line, size_t at);
	void module_variable(const std::string& text);
	void begin_kernel(const std::string& header);
	void end_kernel();
	void statement(const std::string& text);
	void registers(const std::string& text);
	void kernel_variable(const std::string& text);
	void instruction(const std::string& text);
	bool jump(const std::string& opcode, const std::string& operands, Insn& insn);
};

void Reader::read(const std::string& text) {
	std::istringstream in(text);
	for (std::string raw; std::getline(in, raw);) {
		line_++;
		if (auto comment = raw.find("//"); comment != raw.npos) raw.resize(comment);
		const std::string body = trim(raw);
		if (body.empty()) continue;
		if (trim(pending_).empty()) {
			if (starts_with(body, ".section")) return;  // debug information ends the code
			if (directive(body)) continue;
		}
		for (size_t i = 0; i < body.size(); i++) {
			if (kernel_) kernel_character(body, i);
			else module_character(body[i]);
		}
		pending_ += ' ';
	}
}

// Lines that are no statements: true if this was one.
bool Reader::directive(const std::string& body) {
	if (starts_with(body, ".version") || starts_with(body, ".target") || starts_with(body, ".address_size")) return true;
	if (starts_with(body, ".file")) {
		const auto first = body.find('"'), last = body.rfind('"');
		const size_t n = std::stoul(body.substr(5));
		if (module_.files.size() <= n) module_.files.resize(n + 1);
		module_.files[n] = body.substr(first + 1, last - first - 1);
		return true;
	}
	if (!starts_with(body, ".loc ") && !starts_with(body, ".loc\t")) return false;
	sscanf(body.c_str(), ".loc %u %u", &file_, &source_line_);
	if (auto inlined = body.find("inlined_at"); inlined != body.npos) sscanf(body.c_str() + inlined, "inlined_at %u %u", &file_, &source_line_);
	return true;
}

void Reader::module_character(char c) {
	const bool in_initial = pending_.find('=') != pending_.npos;
	if (c == ';') {
		module_variable(pending_);
		pending_.clear();
	} else if (c == '{' && !in_initial) {
		begin_kernel(pending_);
		pending_.clear();
	} else
		pending_ += c;
}

void Reader::kernel_character(const std::string& body, size_t at) {
	const char c = body[at];
	const bool begins = trim(pending_).empty();
	const bool double_colon = (at + 1 < body.size() && body[at + 1] == ':') || (at > 0 && body[at - 1] == ':');
	if (c == ';') {
		statement(trim(pending_));
		pending_.clear();
	} else if (c == ':' && !double_colon && pending_.find_first_of("[{") == pending_.npos) {
		labels_[trim(pending_)] = (u32)kernel_->code.size();
		pending_.clear();
	} else if (c == '{' && begins) {
		scope_depth_++;
		names_.open_scope();
	} else if (c == '}' && brace_depth_ == 0) {
		if (!begins) fail(INVALID_PTX, "a semicolon is missing after %s", pending_.c_str());
		if (scope_depth_-- > 0) names_.close_scope();
		else end_kernel();
	} else {
		brace_depth_ += (c == '{') - (c == '}');
		pending_ += c;
	}
}

// ---- variables

static void store_initial(const Variable& v, u8* bytes) {
	const auto open = v.initial.find('{');
	const bool is_list = open != v.initial.npos;
	u64 at = 0;
	for (const auto& item : split(is_list ? v.initial.substr(open + 1, v.initial.find('}') - open - 1) : v.initial, ',')) {
		if (at + v.element > v.size) fail(INVALID_PTX, "%s has too many initial values", v.name.c_str());
		const u64 value = parse_number(item);
		memcpy(bytes + at, &value, v.element);
		at += v.element;
	}
}

void Reader::module_variable(const std::string& text) {
	if (text.find(".func") != text.npos) fail(INVALID_PTX, "device functions are not supported, inline them: %s", trim(text).c_str());
	const Variable v(text);
	if (v.space == "shared") {
		if (v.is_extern || v.unsized) names_.declare_dynamic_shared(v.name);
		else names_.declare_module_shared(v.name, v.size, v.align);
		return;
	}
	if (v.space != "global" && v.space != "const") fail(INVALID_PTX, "not supported: %s", trim(text).c_str());
	const u64 address = allocate(v.size);
	u8* bytes = (u8*)(address - DEVICE);
	memset(bytes, 0, v.size);
	store_initial(v, bytes);
	note_range_written(address, v.size, "initial value");
	names_.globals[v.name] = address;
	module_.globals[v.name] = {address, v.size};
}

void Reader::kernel_variable(const std::string& text) {
	const Variable v(text);
	if (v.space == "shared") names_.declare_shared(v.name, v.size, v.align);
	else names_.declare_local(v.name, v.size, v.align);
}

// .reg .b32 %r<10>, x
void Reader::registers(const std::string& text) {
	std::istringstream in(text);
	std::string directive, type, rest;
	in >> directive >> type;
	std::getline(in, rest);
	const u8 width = width_of_type(type.substr(1));
	for (const auto& name : split(rest, ',')) {
		const auto open = name.find('<');
		if (open == name.npos) {
			names_.declare_register(name, width);
			continue;
		}
		const u64 count = parse_number(name.substr(open + 1, name.find('>') - open - 1));
		for (u64 i = 0; i < count; i++) names_.declare_register(name.substr(0, open) + std::to_string(i), width);
	}
}

// ---- kernels

// .visible .entry name(.param .u64 a, ...) .maxntid 256, 1, 1
void Reader::begin_kernel(const std::string& header) {
	const auto entry = header.find(".entry"), open = header.find('('), close = header.find(')');
	if (entry == header.npos) fail(INVALID_PTX, "device functions are not supported, inline them: %s", trim(header).c_str());
	const std::string name = trim(header.substr(entry + 6, std::min(open, header.size()) - entry - 6));
	auto& slot = module_.kernels[name];
	slot = std::make_unique<Kernel>();
	kernel_ = slot.get();
	kernel_->name = name;
	kernel_->files = &module_.files;
	names_.enter(kernel_);
	labels_.clear(), jumps_.clear();
	scope_depth_ = 0;

	std::istringstream params(open == header.npos ? "" : header.substr(open + 1, close - open - 1));
	for (std::string item; std::getline(params, item, ',');) {
		if (trim(item).empty()) continue;
		const Variable v(item);
		const u32 offset = (u32)((kernel_->param_bytes + v.align - 1) / v.align * v.align);
		names_.declare_parameter(v.name, offset);
		kernel_->params.push_back({offset, (u32)v.size});
		kernel_->param_bytes = offset + (u32)v.size;
	}
	for (const char* limit : {".maxntid", ".reqntid"}) {
		const auto at = header.find(limit);
		if (at == header.npos) continue;
		u32 x = 1, y = 1, z = 1;
		sscanf(header.c_str() + at + strlen(limit), "%u, %u, %u", &x, &y, &z);
		kernel_->max_threads = x * y * z;
	}
}

void Reader::end_kernel() {
	Insn last;
	last.kind = BRANCH;
	last.flow = EXIT;
	kernel_->code.push_back(last);
	for (const auto& [at, label] : jumps_) {
		const auto it = labels_.find(label);
		if (it == labels_.end()) fail(INVALID_PTX, "unknown label %s", label.c_str());
		kernel_->code[at].target = it->second;
	}
	kernel_ = nullptr;
}

void Reader::statement(const std::string& s) {
	if (s.empty() || starts_with(s, ".pragma")) return;
	if (starts_with(s, ".reg")) registers(s);
	else if (starts_with(s, ".shared") || starts_with(s, ".local")) kernel_variable(s);
	else if (s[0] == '.') fail(INVALID_PTX, "not supported: %s", s.c_str());
	else instruction(s);
}

void Reader::instruction(const std::string& s) {
	std::istringstream in(s);
	std::string opcode, operands;
	Insn guard;
	in >> opcode;
	if (opcode[0] == '@') {
		guard.negate = opcode[1] == '!';
		Register r;
		if (!names_.find_register(opcode.substr(guard.negate ? 2 : 1), r)) fail(INVALID_PTX, "unknown predicate: %s", s.c_str());
		guard.pred = (int)r.plane;
		in >> opcode;
	}
	std::getline(in, operands);

	Insn insn;
	if (!jump(opcode, operands, insn)) {
		Decoder d(names_, opcode, operands);
		const Decode decode = decode_function(d.name());
		if (!decode) d.refuse("not supported");
		decode(d);
		d.refuse_leftovers();
		if (!d.insn.run) d.refuse("not supported");
		insn = d.insn;
	}
	insn.pred = guard.pred;
	insn.negate = guard.negate;
	insn.line = line_;
	insn.file = file_;
	insn.source_line = source_line_;
	kernel_->code.push_back(insn);
}

bool Reader::jump(const std::string& opcode, const std::string& operands, Insn& insn) {
	if (opcode == "bra" || opcode == "bra.uni") {
		insn.flow = JUMP;
		jumps_.push_back({(u32)kernel_->code.size(), trim(operands)});
	} else if (opcode == "ret" || opcode == "ret.uni" || opcode == "exit") {
		insn.flow = EXIT;
	} else
		return false;
	insn.kind = BRANCH;
	return true;
}

}  // namespace

std::unique_ptr<Module> parse(const std::string& ptx) {
	auto module = std::make_unique<Module>();
	Reader reader(*module);
	try {
		reader.read(ptx);
	} catch (const Failure& f) {
		fail(f.code, "PTX line %u: %s", reader.line(), f.text.c_str());
	}
	if (module->kernels.empty()) fail(INVALID_PTX, "no kernel in this PTX");
	return module;
}
