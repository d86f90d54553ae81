#include "text/tokenizer_blob.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/fail.h"
#include "text/shown.h"
#include "text/utf8.h"

// Layout, all numbers little endian:
//   header   64 bytes: "PLTOKEN1", version, flags, space prefix, token count, bos, eos, unk, pad,
//   zeros sections kSections pairs (offset from the blob's start, size in bytes) then the sections,
//   each at a multiple of 4:
//     piece_begin  u32[n + 1]   where piece i begins in `pieces`; the last is its size
//     pieces       bytes
//     kinds        u8[n]
//     sorted       u32[m]       ids of the tokens with a piece, by the piece's bytes
//     merge_begin  u32[s + 1]   s = n + extra characters: merges that begin with symbol i
//     merges       {right, rank, result} u32, ascending by right for each left symbol
//     extra        u32          code points that are no token but begin merges, ascending; symbols
//     n, n + 1, … scores       f32[n] or nothing added        {id, flags} u32 prefix, suffix  i32
//     ids put before and after a text splits       {rule, length} u32 and the pattern, padded to 4,
//     for each stage pre name, chat template   UTF-8

namespace packlight::text {
namespace {

static_assert(std::endian::native == std::endian::little, "the blob is used in place");

constexpr std::array<char, 8> kMagic = {'P', 'L', 'T', 'O', 'K', 'E', 'N', '1'};
constexpr uint32_t kVersion = 1;
// More tokens than any vocabulary has; keeps every size below 32 bits.
constexpr uint32_t kMaxTokens = 1u << 24;
constexpr size_t kMaxSplits = 16;

enum Section : uint32_t {
  kPieceBegin,
  kPieces,
  kKinds,
  kSorted,
  kMergeBegin,
  kMerges,
  kExtra,
  kScores,
  kAdded,
  kPrefix,
  kSuffix,
  kSplits,
  kPreName,
  kTemplate,
  kSections
};

struct Header {
  std::array<char, 8> magic;
  uint32_t version, flags, space_prefix, token_count;
  int32_t bos, eos, unk, pad;
  uint32_t zeros[6];
};
static_assert(sizeof(Header) == 64);

struct SectionEntry {
  uint32_t offset, size;
};

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

bool cuts_at_spaces(const TokenizerData& data) {
  return std::none_of(data.merges.begin(), data.merges.end(), [&](const MergeRule& merge) {
    const std::string_view piece = data.pieces[merge.result];
    size_t i = 0;
    while (piece.substr(i).starts_with(kSpaceMark)) i += kSpaceMark.size();
    return piece.find(kSpaceMark, i) != std::string_view::npos;
  });
}

uint32_t flags_of(const TokenizerData& data) {
  uint32_t flags = 0;
  const auto set = [&](bool on, BlobFlag bit) { flags |= on ? bit : 0u; };
  set(data.byte_level, kByteLevel);
  set(data.ignore_merges, kIgnoreMerges);
  set(data.fuse_unknown, kFuseUnknown);
  set(data.unknown_breaks_words, kUnknownBreaksWords);
  set(data.longest_added_first, kLongestAddedFirst);
  set(data.compose, kCompose);
  set(data.escape_spaces, kEscapeSpaces);
  set(data.normalizer_escapes, kNormalizerEscapes);
  set(cuts_at_spaces(data), kCutsAtSpaces);
  return flags;
}

class BlobWriter {
 public:
  BlobWriter() : bytes_(sizeof(Header) + kSections * sizeof(SectionEntry)) {}

  template <class T>
  void add(Section section, std::span<const T> values) {
    add_bytes(section, std::as_bytes(values));
  }
  void add(Section section, std::string_view text) {
    add_bytes(section, std::as_bytes(std::span(text)));
  }

  std::vector<std::byte> finish(const Header& header) {
    std::memcpy(bytes_.data(), &header, sizeof header);
    std::memcpy(bytes_.data() + sizeof header, entries_.data(), sizeof entries_);
    return std::move(bytes_);
  }

 private:
  void add_bytes(Section section, std::span<const std::byte> values) {
    if (bytes_.size() + values.size() > UINT32_MAX - 8) {
      fail(ErrorCode::kUnsupported, "[text] tokenizer: its tables exceed 4 GiB");
    }
    entries_[section] = {static_cast<uint32_t>(bytes_.size()),
                         static_cast<uint32_t>(values.size())};
    bytes_.insert(bytes_.end(), values.begin(), values.end());
    bytes_.resize((bytes_.size() + 3) / 4 * 4);
  }

  std::vector<std::byte> bytes_;
  std::array<SectionEntry, kSections> entries_{};
};

void write_pieces(const TokenizerData& data, BlobWriter* out) {
  std::vector<uint32_t> begin = {0};
  std::string pieces;
  for (const std::string& piece : data.pieces) {
    pieces += piece;
    begin.push_back(static_cast<uint32_t>(pieces.size()));
  }
  std::vector<uint32_t> sorted;
  for (uint32_t i = 0; i < data.pieces.size(); ++i) {
    if (!data.pieces[i].empty()) sorted.push_back(i);
  }
  std::sort(sorted.begin(), sorted.end(),
            [&](uint32_t a, uint32_t b) { return data.pieces[a] < data.pieces[b]; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (data.pieces[sorted[i - 1]] == data.pieces[sorted[i]]) {
      fail(ErrorCode::kCorrupt,
           "[text] '{}': tokens {} and {} are both '{}'; pieces must be unique", data.origin,
           sorted[i - 1], sorted[i], shown(data.pieces[sorted[i]]));
    }
  }
  out->add(kPieceBegin, std::span<const uint32_t>(begin));
  out->add(kPieces, pieces);
  out->add(kKinds, std::span<const TokenKind>(data.kinds));
  out->add(kSorted, std::span<const uint32_t>(sorted));
}

void write_merges(const TokenizerData& data, BlobWriter* out) {
  const size_t symbols = data.pieces.size() + data.extra_characters.size();
  std::vector<MergeRule> rules = data.merges;
  std::stable_sort(rules.begin(), rules.end(), [](const MergeRule& a, const MergeRule& b) {
    return a.left != b.left ? a.left < b.left : a.right < b.right;
  });
  // Of two rules for one pair the first counts, as in llama.cpp.
  rules.erase(std::unique(rules.begin(), rules.end(),
                          [](const MergeRule& a, const MergeRule& b) {
                            return a.left == b.left && a.right == b.right;
                          }),
              rules.end());
  std::vector<uint32_t> begin(symbols + 1, 0);
  std::vector<Blob::Merge> merges;
  merges.reserve(rules.size());
  for (const MergeRule& rule : rules) {
    ++begin[rule.left + 1];
    merges.push_back({rule.right, rule.rank, rule.result});
  }
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  out->add(kMergeBegin, std::span<const uint32_t>(begin));
  out->add(kMerges, std::span<const Blob::Merge>(merges));
  out->add(kExtra, std::span<const uint32_t>(data.extra_characters));
}

void write_added(const TokenizerData& data, BlobWriter* out) {
  std::vector<Blob::Added> added;
  for (const AddedToken& token : data.added) {
    added.push_back({token.id, (token.special ? kAddedSpecial : 0u) |
                                   (token.lstrip ? kAddedLstrip : 0u) |
                                   (token.rstrip ? kAddedRstrip : 0u) |
                                   (token.single_word ? kAddedSingleWord : 0u) |
                                   (token.normalized ? kAddedNormalized : 0u)});
  }
  out->add(kAdded, std::span<const Blob::Added>(added));
}

std::string pack_splits(const std::vector<SplitStage>& splits) {
  std::string out;
  for (const SplitStage& stage : splits) {
    const uint32_t head[2] = {static_cast<uint32_t>(stage.rule),
                              static_cast<uint32_t>(stage.pattern.size())};
    out.append(reinterpret_cast<const char*>(head), sizeof head);
    out += stage.pattern;
    out.resize((out.size() + 3) / 4 * 4);
  }
  return out;
}

// Reads the sections of a blob; errors name where it came from.
class BlobReader {
 public:
  BlobReader(std::span<const std::byte> bytes, std::string_view origin)
      : bytes_(bytes), origin_(origin) {
    if (bytes.size() < sizeof header_ + kSections * sizeof(SectionEntry))
      corrupt("too short for its header");
    std::memcpy(&header_, bytes.data(), sizeof header_);
    if (header_.magic != kMagic) corrupt("wrong magic");
    if (header_.version != kVersion) {
      fail(ErrorCode::kUnsupported,
           "[text] '{}': its tokenizer has version {}, this program reads {}", origin_,
           header_.version, kVersion);
    }
  }

  const Header& header() const { return header_; }

  [[noreturn]] void corrupt(std::string_view what) const {
    fail(ErrorCode::kCorrupt, "[text] '{}': its tokenizer: {}", origin_, what);
  }

  template <class T>
  std::span<const T> section(Section which) const {
    SectionEntry entry;
    std::memcpy(&entry, bytes_.data() + sizeof header_ + which * sizeof entry, sizeof entry);
    if (entry.offset % 4 != 0 || entry.offset > bytes_.size() ||
        entry.size > bytes_.size() - entry.offset || entry.size % sizeof(T) != 0) {
      corrupt(fmt::format("section {} (offset {}, {} bytes) does not lie in the {} bytes",
                          static_cast<uint32_t>(which), entry.offset, entry.size, bytes_.size()));
    }
    return {reinterpret_cast<const T*>(bytes_.data() + entry.offset), entry.size / sizeof(T)};
  }

  std::string_view text(Section which) const {
    const std::span<const char> chars = section<char>(which);
    return {chars.data(), chars.size()};
  }

  // `begin` partitions [0, total) ascending into `parts` parts.
  void check_partition(std::span<const uint32_t> begin, uint64_t parts, uint64_t total,
                       std::string_view what) const {
    bool good = begin.size() == parts + 1 && begin.front() == 0 && begin.back() == total;
    for (size_t i = 0; good && i + 1 < begin.size(); ++i) good = begin[i] <= begin[i + 1];
    if (!good) corrupt(what);
  }

  std::vector<SplitStage> splits() const {
    const std::span<const char> bytes = section<char>(kSplits);
    std::vector<SplitStage> splits;
    for (size_t i = 0; i < bytes.size();) {
      uint32_t head[2];
      if (bytes.size() - i < sizeof head || splits.size() == kMaxSplits)
        corrupt("bad list of splits");
      std::memcpy(head, bytes.data() + i, sizeof head);
      i += sizeof head;
      const uint64_t padded = (uint64_t{head[1]} + 3) / 4 * 4;
      if (head[0] > static_cast<uint32_t>(SplitRule::kRegex) || padded > bytes.size() - i)
        corrupt("bad list of splits");
      splits.push_back({static_cast<SplitRule>(head[0]), std::string(bytes.data() + i, head[1])});
      i += padded;
    }
    return splits;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view origin_;
  Header header_;
};

}  // namespace

std::vector<std::byte> write_blob(const TokenizerData& data) {
  if (data.pieces.empty() || data.pieces.size() > kMaxTokens ||
      data.kinds.size() != data.pieces.size()) {
    fail(ErrorCode::kCorrupt, "[text] '{}': {} tokens with {} types; need 1 to {} of each",
         data.origin, data.pieces.size(), data.kinds.size(), kMaxTokens);
  }
  if (data.splits.size() > kMaxSplits) {
    fail(ErrorCode::kUnsupported, "[text] '{}': {} pre-tokenizer stages, at most {}", data.origin,
         data.splits.size(), kMaxSplits);
  }
  BlobWriter out;
  write_pieces(data, &out);
  write_merges(data, &out);
  out.add(kScores, std::span<const float>(data.scores));
  write_added(data, &out);
  out.add(kPrefix, std::span<const TokenId>(data.prefix_ids));
  out.add(kSuffix, std::span<const TokenId>(data.suffix_ids));
  out.add(kSplits, pack_splits(data.splits));
  out.add(kPreName, data.pre_name);
  out.add(kTemplate, data.chat_template);
  Header header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.flags = flags_of(data);
  header.space_prefix = static_cast<uint32_t>(data.space_prefix);
  header.token_count = static_cast<uint32_t>(data.pieces.size());
  header.bos = data.bos, header.eos = data.eos, header.unk = data.unk, header.pad = data.pad;
  return out.finish(header);
}

Blob Blob::open(std::span<const std::byte> bytes, std::string_view origin) {
  const BlobReader reader(bytes, origin);
  const Header& header = reader.header();
  const uint32_t n = header.token_count;
  if (n == 0 || n > kMaxTokens) reader.corrupt("absurd number of tokens");
  if (header.space_prefix > static_cast<uint32_t>(SpacePrefix::kFirstUnlessSpace))
    reader.corrupt("unknown space rule");
  Blob blob;
  blob.origin_ = origin;
  blob.token_count_ = n;
  blob.flags_ = header.flags;
  blob.space_prefix_ = static_cast<SpacePrefix>(header.space_prefix);
  const auto is_token = [n](int64_t id) { return id >= 0 && id < n; };
  const auto special = [&](int32_t id) {
    if (id != -1 && !is_token(id)) reader.corrupt("a special token is outside the vocabulary");
    return id;
  };
  blob.bos_ = special(header.bos), blob.eos_ = special(header.eos);
  blob.unk_ = special(header.unk), blob.pad_ = special(header.pad);

  blob.piece_begin_ = reader.section<uint32_t>(kPieceBegin);
  blob.pieces_ = reader.section<char>(kPieces);
  reader.check_partition(blob.piece_begin_, n, blob.pieces_.size(), "bad piece offsets");
  blob.kinds_ = reader.section<uint8_t>(kKinds);
  if (blob.kinds_.size() != n || *std::max_element(blob.kinds_.begin(), blob.kinds_.end()) >
                                     static_cast<uint8_t>(TokenKind::kUnused)) {
    reader.corrupt("bad token kinds");
  }
  const auto all_tokens = [&](auto ids) { return std::all_of(ids.begin(), ids.end(), is_token); };
  blob.sorted_ = reader.section<uint32_t>(kSorted);
  if (!all_tokens(blob.sorted_)) reader.corrupt("bad piece index");

  blob.extra_ = reader.section<uint32_t>(kExtra);
  if (blob.extra_.size() > kMaxTokens) reader.corrupt("absurd number of characters");
  const uint32_t symbols = blob.symbol_count();
  blob.merge_begin_ = reader.section<uint32_t>(kMergeBegin);
  blob.merges_ = reader.section<Merge>(kMerges);
  reader.check_partition(blob.merge_begin_, symbols, blob.merges_.size(), "bad merge offsets");
  for (const Merge& merge : blob.merges_) {
    if (merge.right >= symbols || merge.result >= n)
      reader.corrupt("a merge names a symbol outside the vocabulary");
  }
  blob.scores_ = reader.section<float>(kScores);
  if (!blob.scores_.empty() && blob.scores_.size() != n)
    reader.corrupt("scores for another number of tokens");
  blob.added_ = reader.section<Added>(kAdded);
  for (const Added& token : blob.added_) {
    if (token.id >= n || blob.piece(token.id).empty())
      reader.corrupt("an added token is outside the vocabulary");
    // It is looked for in text, which it must not cut inside a character.
    if (!is_utf8(blob.piece(token.id))) {
      reader.corrupt(fmt::format("the added token {} '{}' is not UTF-8", token.id,
                                 shown(blob.piece(token.id))));
    }
  }
  blob.prefix_ids_ = reader.section<TokenId>(kPrefix);
  blob.suffix_ids_ = reader.section<TokenId>(kSuffix);
  if (!all_tokens(blob.prefix_ids_) || !all_tokens(blob.suffix_ids_))
    reader.corrupt("bad prefix or suffix");
  blob.splits_ = reader.splits();
  blob.pre_name_ = reader.text(kPreName);
  blob.chat_template_ = reader.text(kTemplate);
  return blob;
}

TokenId Blob::find(std::string_view text) const {
  const auto it =
      std::lower_bound(sorted_.begin(), sorted_.end(), text,
                       [&](uint32_t id, std::string_view want) { return piece(id) < want; });
  return it != sorted_.end() && piece(*it) == text ? static_cast<TokenId>(*it) : -1;
}

const Blob::Merge* Blob::find_merge(uint32_t left, uint32_t right) const {
  const Merge* begin = merges_.data() + merge_begin_[left];
  const Merge* end = merges_.data() + merge_begin_[left + 1];
  const Merge* it = std::lower_bound(begin, end, right,
                                     [](const Merge& m, uint32_t want) { return m.right < want; });
  return it != end && it->right == right ? it : nullptr;
}

int64_t Blob::find_extra(uint32_t code_point) const {
  const auto it = std::lower_bound(extra_.begin(), extra_.end(), code_point);
  return it != extra_.end() && *it == code_point ? token_count_ + (it - extra_.begin()) : -1;
}

TokenizerData Blob::data() const {
  TokenizerData data;
  data.origin = origin_;
  data.byte_level = flag(kByteLevel);
  data.ignore_merges = flag(kIgnoreMerges);
  data.fuse_unknown = flag(kFuseUnknown);
  data.unknown_breaks_words = flag(kUnknownBreaksWords);
  data.longest_added_first = flag(kLongestAddedFirst);
  data.compose = flag(kCompose);
  data.escape_spaces = flag(kEscapeSpaces);
  data.normalizer_escapes = flag(kNormalizerEscapes);
  data.space_prefix = space_prefix_;
  for (uint32_t i = 0; i < token_count_; ++i) {
    data.pieces.emplace_back(piece(i));
    data.kinds.push_back(kind(i));
  }
  data.scores.assign(scores_.begin(), scores_.end());
  data.extra_characters.assign(extra_.begin(), extra_.end());
  for (uint32_t left = 0; left < symbol_count(); ++left) {
    for (uint32_t i = merge_begin_[left]; i < merge_begin_[left + 1]; ++i) {
      data.merges.push_back({left, merges_[i].right, merges_[i].result, merges_[i].rank});
    }
  }
  for (const Added& token : added_) {
    data.added.push_back({token.id, (token.flags & kAddedSpecial) != 0,
                          (token.flags & kAddedLstrip) != 0, (token.flags & kAddedRstrip) != 0,
                          (token.flags & kAddedSingleWord) != 0,
                          (token.flags & kAddedNormalized) != 0});
  }
  data.splits = splits_;
  data.prefix_ids.assign(prefix_ids_.begin(), prefix_ids_.end());
  data.suffix_ids.assign(suffix_ids_.begin(), suffix_ids_.end());
  data.bos = bos_, data.eos = eos_, data.unk = unk_, data.pad = pad_;
  data.pre_name = pre_name_;
  data.chat_template = chat_template_;
  return data;
}

}  // namespace packlight::text
