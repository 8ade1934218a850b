#include "packed_weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <system_error>
#include <vector>

namespace gpt2onnx {
namespace {

[[noreturn]] void fail_at(const std::string& path, int error) {
  fail(path + ": " + std::generic_category().message(error));
}

// A file that is open for as long as this lives.
class File {
 public:
  File(const std::string& path, int flags) : path_(path), number_(open(path.c_str(), flags, 0666)) {
    if (number_ < 0) fail_at(path_, errno);
  }
  ~File() { close(number_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Its size; 0 where it is no regular file.
  size_t size() const {
    struct stat found;
    if (fstat(number_, &found) != 0) fail_at(path_, errno);
    return S_ISREG(found.st_mode) ? size_t(found.st_size) : 0;
  }

  void write(const void* data, size_t bytes) const {
    auto* from = static_cast<const uint8_t*>(data);
    while (bytes) {
      ssize_t written = ::write(number_, from, bytes);
      if (written < 0 && errno != EINTR) fail_at(path_, errno);
      if (written > 0) from += written, bytes -= size_t(written);
    }
  }

  std::shared_ptr<const uint8_t> map(size_t bytes) const {
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, number_, 0);
    if (memory == MAP_FAILED) fail_at(path_, errno);
    return {static_cast<const uint8_t*>(memory),
            [bytes](const uint8_t* all) { munmap(const_cast<uint8_t*>(all), bytes); }};
  }

 private:
  const std::string path_;
  const int number_;
};

// A node's file. Raises Failure for a name that would be another place.
std::string file_of(const std::string& folder, const std::string& node) {
  if (node.empty() || node.find_first_of(std::string("/\0", 2)) != std::string::npos)
    fail("its packed weights can't have a file of this name");
  return folder + "/" + node + ".packed";
}

// Another's bytes may change what follows in the file, but not its size, nor what it is taken for.
// The size tells how long its scales are.
std::shared_ptr<const uint8_t> mapped(const std::string& path, Form& form) {
  auto bytes = [&] { return sizeof(Form) + form.level_bytes() + form.scale_bytes(); };
  File file(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for a writer
  if (file.size() < bytes()) form.scale_bits = 16;
  if (file.size() != bytes())
    fail(path + " has " + std::to_string(file.size()) + " bytes, expected a file of " +
         std::to_string(bytes()));
  auto all = file.map(bytes());
  if (std::memcmp(all.get(), &form, sizeof(Form)) != 0)
    fail(path + " holds other weights, or those of other kernels than " + form.kernels);
  return {all, all.get() + sizeof(Form)};
}

void save(const std::string& path, const Form& form, const uint8_t* levels, const uint8_t* scales) {
  File file(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
  try {
    file.write(&form, sizeof(Form));
    file.write(levels, form.level_bytes());
    file.write(scales, form.scale_bytes());
  } catch (...) {
    unlink(path.c_str());
    throw;
  }
}

// Floats as halves; false where one of them is no half, or none in full precision.
bool narrow(const float* scales, size_t count, uint16_t* to) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, scales + i, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff, exponent = size >> 23;
    if (size && (exponent < 113 || exponent > 142 || size & 0x1fff)) return false;
    to[i] = uint16_t(sign | (size ? (size - (112u << 23)) >> 13 : 0));
  }
  return true;
}

std::shared_ptr<uint8_t> aligned(size_t bytes) {
  auto memory = std::make_shared<Aligned>(bytes);
  return {memory, memory->as<uint8_t>()};
}

// Memory for weights, which lie one behind another in large pieces: those have huge pages, which
// most matrices alone are too small for. Small ones have memory of their own.
std::shared_ptr<uint8_t> room(size_t bytes) {
  constexpr size_t PIECE = 32 << 20, SMALL = 64 << 10, LINE = 64;
  static std::mutex taking;
  static std::weak_ptr<Aligned> latest;
  static size_t size, taken;
  if (bytes < SMALL) return aligned(bytes);
  std::lock_guard<std::mutex> lock(taking);
  auto piece = latest.lock();
  if (!piece || size - taken < bytes) {
    size = std::max(bytes, PIECE), taken = 0;
    latest = piece = std::make_shared<Aligned>(size);
  }
  uint8_t* here = piece->as<uint8_t>() + taken;
  taken = std::min(size, (taken + bytes + LINE - 1) / LINE * LINE);
  return {piece, here};
}

}  // namespace

Form::Form(const Kernels& of, int64_t in, int64_t out, int64_t padded, int64_t group, int64_t bits,
           int64_t scales)
    : in(in), out(out), padded(padded), group(group), bits(bits), scales(scales) {
  std::strncpy(kernels, of.name, sizeof kernels - 1);
}

PackedWeights::PackedWeights(const Node& node, Form form, const Pack& pack,
                             const std::string& part) {
  const Options& options = node.options();
  const std::string name = node.name() + part;
  if (!options.packed.empty()) {
    levels_ = mapped(file_of(options.packed, name), form);
    scales_ = {levels_, levels_.get() + form.level_bytes()};
  } else {
    auto levels = room(form.level_bytes()), scales = aligned(form.scale_bytes());
    auto* floats = reinterpret_cast<float*>(scales.get());
    pack(levels.get(), floats);
    auto halves = room(form.scale_bytes() / 2);
    if (form.scales && narrow(floats, form.scale_count(), reinterpret_cast<uint16_t*>(halves.get())))
      scales = halves, form.scale_bits = 16;
    if (!options.pack_to.empty())
      save(file_of(options.pack_to, name), form, levels.get(), scales.get());
    levels_ = levels, scales_ = scales;
  }
  scale_bits_ = int(form.scale_bits);
}

const uint8_t* PackedRows::levels(int64_t row, int64_t width, uint8_t* to) const {
  kernels.unpack(weights.levels() + row / LANES * LANES * padded, int(row % LANES), width, to);
  return to;
}

void PackedRows::scales(int64_t row, float* to) const {
  const int64_t first = row / LANES * LANES * groups + row % LANES;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t at = first + group * LANES;
    if (weights.scale_bits() == 32) to[group] = static_cast<const float*>(weights.scales())[at];
    else kernels.take(static_cast<const uint16_t*>(weights.scales()) + at, 1, Store::float16,
                      to + group);
  }
}

const float* PackedRows::floats(int64_t row, int64_t width, float* to) const {
  const float* from = weights.floats() + row / LANES * LANES * padded + row % LANES;
  for (int64_t k = 0; k < width; ++k) to[k] = from[k * LANES];
  return to;
}

namespace {

std::mutex publishing;
std::map<const void*, std::weak_ptr<const PackedRows>> all_published;

}  // namespace

void publish(const void* unpacked, const std::shared_ptr<const PackedRows>& rows) {
  std::lock_guard<std::mutex> lock(publishing);
  for (auto at = all_published.begin(); at != all_published.end();)
    at = at->second.expired() ? all_published.erase(at) : std::next(at);
  all_published[unpacked] = rows;
}

std::shared_ptr<const PackedRows> published(const void* unpacked) {
  std::lock_guard<std::mutex> lock(publishing);
  auto found = all_published.find(unpacked);
  return found == all_published.end() ? nullptr : found->second.lock();
}

}  // namespace gpt2onnx
