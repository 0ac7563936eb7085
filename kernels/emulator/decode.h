// How the text of one instruction becomes an Insn. Each family of instructions has a
// decode function beside the code that executes it; this is what they decode with.
#pragma once
#include <initializer_list>
#include <set>

#include "module.h"

// A register's plane and its width in bytes.
struct Register {
	Plane plane = 0;
	u8 width = 0;
};

// The names that instructions of one kernel may use, and what they stand for.
class Names {
public:
	Kernel* kernel = nullptr;
	std::map<std::string, u64> globals;  // of the module: address

	void enter(Kernel* k);  // a new kernel, nothing declared
	void open_scope() { scopes.emplace_back(); }
	void close_scope() { scopes.pop_back(); }

	void declare_register(const std::string& name, u8 width);
	void declare_parameter(const std::string& name, u32 offset) { parameters[name] = offset; }
	void declare_dynamic_shared(const std::string& name) { dynamic_shared.insert(name); }
	void declare_module_shared(const std::string& name, u64 size, u64 align) { module_shared[name] = {size, align}; }
	void declare_shared(const std::string& name, u64 size, u64 align);
	void declare_local(const std::string& name, u64 size, u64 align);

	// Each returns false if there is no such name.
	bool find_register(const std::string& name, Register& r);
	bool find_symbol(const std::string& name, u64& address);
	bool find_parameter(const std::string& name, u64& offset) const;
	bool find_special(const std::string& name, u8 width, Register& r);

	Register constant(u64 value, u8 width);
	Register scratch(u8 width);  // a register that nobody reads

private:
	std::vector<std::map<std::string, Register>> scopes;
	std::map<std::string, u64> symbols;  // shared and local variables
	std::map<std::string, u32> parameters;
	std::map<std::string, std::pair<u64, u64>> module_shared;  // size, alignment; placed at first use
	std::set<std::string> dynamic_shared;
	std::map<std::pair<u64, u8>, Plane> constants;
	std::map<std::pair<std::string, u8>, Register> specials;

	Register special(const std::string& name, u8 width);
};

// One instruction being decoded. Every part of its opcode must be taken by the decode
// function that understands it; refuse_leftovers names the first that was not.
class Decoder {
public:
	std::vector<std::string> parts;  // "ld", "global", "v4", "u32"
	std::vector<std::string> args;
	Insn insn;

	Decoder(Names& names, const std::string& opcode, const std::string& operands);

	const std::string& name() const { return parts[0]; }
	bool take(const char* part);
	// Takes whichever is there and returns its index, or -1.
	int take_one(std::initializer_list<const char*> choices);
	std::string take_type() { return take_last(); }
	std::string take_last();
	u8 take_vector();  // 4 for .v4; 1 if there is none
	void refuse_leftovers();

	void destination(size_t n);
	Register reg(size_t n) { return named(arg(n)); }
	Register source(size_t n, u8 width) { return operand(arg(n), width); }
	Plane predicate(size_t n, bool& negated);
	Address address(size_t n);
	u64 immediate(size_t n) { return number(arg(n)); }
	std::vector<std::string> list(size_t n);  // of {a, b, c}; a alone is a list of one
	const std::string& arg(size_t n);
	size_t count() const { return args.size(); }

	Register named(const std::string& name);  // a register
	Register operand(const std::string& text, u8 width);
	Names& names() { return names_; }

	[[noreturn]] void refuse(const std::string& what);

private:
	Names& names_;
	std::string text_;
	std::vector<bool> taken_;

	u64 number(const std::string& text);
};

std::vector<std::string> split(const std::string& text, char separator);  // outside of brackets, without blanks
u64 parse_number(const std::string& text);                                // decimal, 0x, 0f, 0d
u8 width_of_type(const std::string& type);                                // bytes; fails on unknown ones

// The decode function of an instruction, by name; null if there is none.
typedef void (*Decode)(Decoder&);
Decode decode_function(const std::string& name);

void decode_load(Decoder&);
void decode_store(Decoder&);
void decode_atomic(Decoder&);
void decode_cp(Decoder&);
void decode_matrix(Decoder&);
void decode_mma(Decoder&);
void decode_shuffle(Decoder&);
void decode_vote(Decoder&);
void decode_reduction(Decoder&);
void decode_activemask(Decoder&);
void decode_barrier(Decoder&);
void decode_fence(Decoder&);
void decode_trap(Decoder&);
void decode_move(Decoder&);
void decode_cvta(Decoder&);
void decode_convert(Decoder&);
void decode_compare(Decoder&);
void decode_select(Decoder&);
void decode_arithmetic(Decoder&);
void decode_float(Decoder&, const std::string& type);
void decode_integer(Decoder&, const std::string& type);
void decode_bits(Decoder&);
void decode_special(Decoder&);
