#include "manifest/nearest.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace vibe::manifest {
namespace {

// Longer ones are no misspelling, and the distance takes time that grows with the square.
constexpr size_t kMaxWord = 64;

std::string Folded(absl::string_view word) {
  std::string folded;
  for (const char c : word) {
    if (c != '_' && c != '-') {
      folded.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    }
  }
  return folded;
}

}  // namespace

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    current[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(current);
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({last[j] + 1, current[j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before_last[j - 2] + 1);
      }
    }
  }
  return current[b.size()];
}

absl::string_view Nearest(absl::string_view word, absl::Span<const absl::string_view> known) {
  if (word.empty() || word.size() > kMaxWord) {
    return {};
  }
  const std::string folded = Folded(word);
  absl::string_view best;
  size_t best_distance = 0;
  for (const absl::string_view candidate : known) {
    const std::string other = Folded(candidate);
    const size_t distance = EditDistance(folded, other);
    // A third of the letters may be wrong; more makes another word of it.
    const size_t allowed = std::max<size_t>(1, std::max(folded.size(), other.size()) / 3);
    if (distance <= allowed && distance < other.size() &&
        (best.empty() || distance < best_distance)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string Suggestion(absl::string_view word, absl::Span<const absl::string_view> known) {
  if (const absl::string_view nearest = Nearest(word, known); !nearest.empty()) {
    return absl::StrCat("; did you mean \"", nearest, "\"?");
  }
  return absl::StrCat("; known are ", absl::StrJoin(known, ", "));
}

}  // namespace vibe::manifest
