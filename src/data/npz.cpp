#include "data/npz.h"

#include <zlib.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "io/npy.h"

namespace packlight::data {
namespace {

// Layouts and signatures: PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 (local header), 4.3.12
// (directory entry) and 4.3.16 (end of the directory).
constexpr uint32_t kLocalSignature = 0x04034b50, kEntrySignature = 0x02014b50,
                   kEndSignature = 0x06054b50;
constexpr size_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kMaxComment = 65535;
constexpr uint16_t kStored = 0, kDeflated = 8, kEncryptedFlag = 1;
// Deflate codes 258 bytes in 2 bits at best (zlib's technical notes: 1032 to 1).
constexpr uint64_t kMaxRatio = 1032;

struct Entry {
  std::string name;
  uint16_t flags, method;
  uint32_t crc;
  uint64_t packed_bytes, bytes, local_offset;
};

class Archive {
 public:
  Archive(std::span<const std::byte> bytes, const std::string& origin)
      : bytes_(bytes), origin_(origin) {}

  std::vector<Entry> directory() const {
    const size_t end = find_end();
    const uint64_t count = u16(end + 10), size = u32(end + 12), begin = u32(end + 16);
    if (u16(end + 4) != 0 || u16(end + 6) != 0 || u16(end + 8) != count)
      fail(ErrorCode::kUnsupported, "[npz] '{}': an archive of several files", origin_);
    if (count == 0xffff || size == 0xffffffff || begin == 0xffffffff)
      fail(ErrorCode::kUnsupported, "[npz] '{}': ZIP64 is not read here", origin_);
    if (begin > end || size > end - begin)
      corrupt("a directory of {} bytes at byte {}, which ends at {}", size, begin, end);
    std::vector<Entry> entries;
    size_t at = begin;
    for (uint64_t i = 0; i < count; ++i) at = read_entry(at, begin + size, entries);
    check_regions(entries, begin);
    return entries;
  }

  // The packed bytes of an entry, from its local header on.
  std::span<const std::byte> packed(const Entry& entry) const {
    const size_t begin = data_begin(entry);
    return bytes_.subspan(begin, entry.packed_bytes);
  }

  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> text, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[npz] '{}': {}", origin_,
         fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  uint16_t u16(size_t at) const {
    return static_cast<uint16_t>(std::to_integer<int>(bytes_[at]) |
                                 std::to_integer<int>(bytes_[at + 1]) << 8);
  }
  uint32_t u32(size_t at) const {
    return static_cast<uint32_t>(u16(at)) | static_cast<uint32_t>(u16(at + 2)) << 16;
  }
  std::string text(size_t at, size_t size) const {
    return {reinterpret_cast<const char*>(bytes_.data()) + at, size};
  }

  // The last end record whose comment ends where the file does.
  size_t find_end() const {
    if (bytes_.size() < kEndBytes) corrupt("{} bytes are too few for a ZIP archive", bytes_.size());
    const size_t last = bytes_.size() - kEndBytes;
    for (size_t back = 0; back <= std::min(last, kMaxComment); ++back) {
      const size_t at = last - back;
      if (u32(at) == kEndSignature && u16(at + 20) == back) return at;
    }
    corrupt("no end of a ZIP directory: it is truncated or no archive");
  }

  size_t read_entry(size_t at, size_t limit, std::vector<Entry>& entries) const {
    if (limit - at < kEntryBytes || u32(at) != kEntrySignature)
      corrupt("no directory entry at byte {}", at);
    const size_t name_bytes = u16(at + 28);
    const size_t size = kEntryBytes + name_bytes + u16(at + 30) + u16(at + 32);
    if (size > limit - at) corrupt("the directory entry at byte {} is cut off", at);
    Entry entry{text(at + kEntryBytes, name_bytes),
                u16(at + 8),
                u16(at + 10),
                u32(at + 16),
                u32(at + 20),
                u32(at + 24),
                u32(at + 42)};
    if (entry.packed_bytes == 0xffffffff || entry.bytes == 0xffffffff ||
        entry.local_offset == 0xffffffff) {
      fail(ErrorCode::kUnsupported, "[npz] '{}' entry '{}': ZIP64 is not read here", origin_,
           entry.name);
    }
    entries.push_back(std::move(entry));
    return at + size;
  }

  size_t data_begin(const Entry& entry) const {
    const size_t at = entry.local_offset;
    if (at > bytes_.size() || bytes_.size() - at < kLocalBytes || u32(at) != kLocalSignature)
      corrupt("entry '{}': no local header at byte {}", entry.name, at);
    const size_t begin = at + kLocalBytes + u16(at + 26) + u16(at + 28);
    if (begin > bytes_.size() || entry.packed_bytes > bytes_.size() - begin) {
      corrupt("entry '{}': {} bytes at byte {} of a file of {}", entry.name, entry.packed_bytes,
              begin, bytes_.size());
    }
    return begin;
  }

  // Entries that share bytes would let a small archive unpack to any size.
  void check_regions(const std::vector<Entry>& entries, size_t directory_begin) const {
    std::vector<const Entry*> order;
    for (const Entry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(),
              [](const Entry* a, const Entry* b) { return a->local_offset < b->local_offset; });
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t end = data_begin(*order[i]) + order[i]->packed_bytes;
      const size_t limit = i + 1 < order.size() ? order[i + 1]->local_offset : directory_begin;
      if (end > limit)
        corrupt("entry '{}' runs to byte {}, over what starts at {}", order[i]->name, end, limit);
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& origin_;
};

std::vector<std::byte> unpack(const Archive& archive, const Entry& entry) {
  const auto packed = archive.packed(entry);
  if (entry.bytes > packed.size() * kMaxRatio + 64) {
    archive.corrupt("entry '{}': {} bytes out of {} packed ones", entry.name, entry.bytes,
                    packed.size());
  }
  std::vector<std::byte> out(entry.bytes);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
    fail(ErrorCode::kOutOfMemory, "[npz] entry '{}': zlib cannot start", entry.name);
  // Both sizes are below 4 GB: they come from 32-bit fields.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::byte nothing{};  // zlib refuses a null pointer even for no bytes
  stream.next_out = reinterpret_cast<Bytef*>(out.empty() ? &nothing : out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool whole = result == Z_STREAM_END && stream.avail_out == 0 && stream.avail_in == 0;
  inflateEnd(&stream);
  if (!whole)
    archive.corrupt("entry '{}': its deflated bytes do not unpack to {}", entry.name, entry.bytes);
  return out;
}

uint32_t checksum(std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(
      crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

io::TensorRecord read_array(const Archive& archive, const Entry& entry,
                            const std::shared_ptr<const void>& owner, const std::string& origin) {
  const std::string where = origin + ":" + entry.name;
  constexpr std::string_view kSuffix = ".npy";
  if (!entry.name.ends_with(kSuffix))
    fail(ErrorCode::kUnsupported, "[npz] '{}': the entry is no .npy", where);
  if ((entry.flags & kEncryptedFlag) != 0)
    fail(ErrorCode::kUnsupported, "[npz] '{}': encrypted", where);
  if (entry.method != kStored && entry.method != kDeflated) {
    fail(ErrorCode::kUnsupported, "[npz] '{}': compression method {}, stored and deflate are read",
         where, entry.method);
  }
  std::span<const std::byte> bytes = archive.packed(entry);
  std::shared_ptr<const void> keeper = owner;
  if (entry.method == kDeflated) {
    auto unpacked = std::make_shared<const std::vector<std::byte>>(unpack(archive, entry));
    bytes = *unpacked;
    keeper = std::move(unpacked);
  } else if (entry.bytes != entry.packed_bytes) {
    archive.corrupt("entry '{}': stored, yet {} bytes in {}", entry.name, entry.bytes,
                    entry.packed_bytes);
  }
  if (const uint32_t crc = checksum(bytes); crc != entry.crc)
    archive.corrupt("entry '{}': checksum {:08x}, it should be {:08x}", entry.name, crc, entry.crc);
  return io::parse_npy(bytes, std::move(keeper), where,
                       entry.name.substr(0, entry.name.size() - kSuffix.size()));
}

}  // namespace

std::vector<io::TensorRecord> parse_npz(std::span<const std::byte> bytes,
                                        std::shared_ptr<const void> owner,
                                        const std::string& origin) {
  const Archive archive(bytes, origin);
  std::vector<io::TensorRecord> records;
  std::set<std::string> names;
  for (const Entry& entry : archive.directory()) {
    if (!names.insert(entry.name).second) archive.corrupt("entry '{}' twice", entry.name);
    records.push_back(read_array(archive, entry, owner, origin));
  }
  return records;
}

std::vector<io::TensorRecord> read_npz(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_npz(bytes, std::move(file), path.string());
}

}  // namespace packlight::data
