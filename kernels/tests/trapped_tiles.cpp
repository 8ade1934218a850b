// AMX's instructions on a processor without them: each one is an illegal instruction there, which a
// signal's handler carries out instead, after Intel's manual (Software Developer's Manual, volume
// 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPBSUD). What the compiler wrote
// runs, byte for byte; whatever the manual calls a fault ends the process.
#include <signal.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Tile { int rows, bytes; uint8_t data[16][64]; };
Tile tiles[8];
bool shaped;
int products;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tiles: %s\n", what);
  std::_Exit(2);
}

// An instruction behind its VEX prefix of three bytes.
struct Instruction {
  const uint8_t* at;
  greg_t* registers;
  bool r, x, b;
  int prefix, other;  // 0 none, 1 66, 2 F3, 3 F2; vvvv
  uint8_t opcode, modrm;
  int length = 5;
  uintptr_t base = 0;
  int64_t stride = 0;

  int mod() const { return modrm >> 6; }
  int reg() const { return (modrm >> 3 & 7) | r << 3; }
  int rm() const { return (modrm & 7) | b << 3; }

  int64_t value(int number) const {
    static constexpr int ORDER[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15};
    return registers[ORDER[number]];
  }
  // Where the memory operand is, and what its index says.
  void find_memory() {
    bool has_sib = (modrm & 7) == 4, has_base = true;
    uint8_t sib = has_sib ? at[length++] : 0;
    int number = has_sib ? (sib & 7) | b << 3 : rm();
    if (mod() == 0 && (number & 7) == 5) has_base = false;
    if (has_base) base = uintptr_t(value(number));
    int index = (sib >> 3 & 7) | x << 3;
    if (has_sib && index != 4) stride = value(index) << (sib >> 6);
    if (mod() == 1) base += uintptr_t(int64_t(int8_t(at[length]))), length += 1;
    if (mod() == 2 || !has_base) {
      int32_t by;
      std::memcpy(&by, at + length, 4);
      base += uintptr_t(int64_t(by)), length += 4;
    }
    if (!has_base && !has_sib) base += uintptr_t(at + length);
  }
};

Instruction decoded(const uint8_t* at, greg_t* registers) {
  require(at[0] == 0xc4 && (at[1] & 31) == 2 && !(at[2] & 0x84), "not one of AMX's instructions");
  Instruction all{at, registers, !(at[1] & 0x80), !(at[1] & 0x40), !(at[1] & 0x20),
                  at[2] & 3, ~at[2] >> 3 & 15, at[3], at[4]};
  if (all.mod() != 3) all.find_memory();
  return all;
}

void shape(const uint8_t* from) {
  require(from[0] == 1 && from[1] == 0, "palette 1 and start row 0 are expected");
  for (int i = 2; i < 16; ++i) require(from[i] == 0, "reserved bytes have to be 0");
  for (int i = 32; i < 48; ++i) require(from[i] == 0, "there are 8 tiles, not more");
  for (int i = 56; i < 64; ++i) require(from[i] == 0, "there are 8 tiles, not more");
  for (int i = 0; i < 8; ++i) {
    uint16_t bytes;
    std::memcpy(&bytes, from + 16 + 2 * i, 2);
    require(bytes <= 64 && from[48 + i] <= 16 && !bytes == !from[48 + i], "a tile's shape");
    tiles[i] = {from[48 + i], bytes, {}};
  }
  shaped = true;
}

Tile& tile(int number) {
  require(shaped && number < 8 && tiles[number].rows, "a tile without a shape");
  return tiles[number];
}

void multiply(Tile& sums, const Tile& a, const Tile& b) {
  require(&sums != &a && &sums != &b && &a != &b, "tiles have to differ");
  require(a.bytes % 4 == 0 && b.bytes % 4 == 0 && a.rows == sums.rows && b.bytes == sums.bytes &&
              a.bytes / 4 == b.rows, "shapes that don't go together");
  ++products;
  for (int m = 0; m < sums.rows; ++m)
    for (int n = 0; n < sums.bytes / 4; ++n) {
      uint32_t sum;
      std::memcpy(&sum, &sums.data[m][4 * n], 4);
      for (int k = 0; k < a.bytes; ++k)
        sum += uint32_t(int8_t(a.data[m][k]) * int(b.data[k / 4][4 * n + k % 4]));
      std::memcpy(&sums.data[m][4 * n], &sum, 4);
    }
}

void run(const Instruction& of) {
  const bool memory = of.mod() != 3;
  if (of.opcode == 0x49 && of.prefix == 0 && memory && of.reg() == 0) {
    shape(reinterpret_cast<const uint8_t*>(of.base));
  } else if (of.opcode == 0x49 && of.prefix == 0 && of.modrm == 0xc0) {
    shaped = false;
  } else if (of.opcode == 0x49 && of.prefix == 3 && !memory) {
    std::memset(tile(of.reg()).data, 0, sizeof tiles[0].data);
  } else if (of.opcode == 0x4b && of.prefix == 3 && memory) {
    Tile& to = tile(of.reg());
    std::memset(to.data, 0, sizeof to.data);
    for (int row = 0; row < to.rows; ++row)
      std::memcpy(to.data[row], reinterpret_cast<void*>(of.base + uintptr_t(row * of.stride)),
                  size_t(to.bytes));
  } else if (of.opcode == 0x4b && of.prefix == 2 && memory) {
    const Tile& from = tile(of.reg());
    for (int row = 0; row < from.rows; ++row)
      std::memcpy(reinterpret_cast<void*>(of.base + uintptr_t(row * of.stride)), from.data[row],
                  size_t(from.bytes));
  } else if (of.opcode == 0x5e && of.prefix == 2 && !memory) {
    multiply(tile(of.reg()), tile(of.rm()), tile(of.other));
  } else {
    require(false, "an instruction that isn't known here");
  }
}

void trapped(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction of = decoded(reinterpret_cast<const uint8_t*>(registers[REG_RIP]), registers);
  run(of);
  registers[REG_RIP] += of.length;
}

const bool ready = [] {
  struct sigaction action = {};
  action.sa_sigaction = trapped;
  action.sa_flags = SA_SIGINFO;
  // The handler isn't there for nothing.
  std::atexit([] { require(products > 0 && !shaped, "none were used, or not given back"); });
  return sigaction(SIGILL, &action, nullptr) == 0;
}();

}  // namespace
