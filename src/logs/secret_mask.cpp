#include "logs/secret_mask.h"

#include <algorithm>

namespace vibe::logs {
namespace {

constexpr std::string_view kMask = "***";  // shorter than any value, so that no line grows
static_assert(kMask.size() < SecretMask::kMinBytes);
constexpr std::string_view kBlanks = " \t\r";

std::string_view Trim(std::string_view text) {
  const size_t start = text.find_first_not_of(kBlanks);
  return start == std::string_view::npos
             ? std::string_view()
             : text.substr(start, text.find_last_not_of(kBlanks) + 1 - start);
}

}  // namespace

SecretMask::SecretMask(const std::vector<std::string>& values) {
  for (const std::string_view value : values) {
    if (value.find('\n') == std::string_view::npos) {
      values_.emplace_back(value);
      continue;
    }
    for (size_t start = 0; start <= value.size();) {
      const size_t end = std::min(value.find('\n', start), value.size());
      values_.emplace_back(Trim(value.substr(start, end - start)));
      start = end + 1;
    }
  }
  std::erase_if(values_, [](const std::string& value) { return value.size() < kMinBytes; });
  std::sort(values_.begin(), values_.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  values_.erase(std::unique(values_.begin(), values_.end()), values_.end());
  for (const std::string& value : values_) {
    first_[static_cast<unsigned char>(value[0])] = true;
  }
}

size_t SecretMask::Apply(std::string_view text, bool last, std::string& out) const {
  size_t done = 0;  // up to here it is in `out`
  size_t at = 0;
  while (at < text.size()) {
    if (!first_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const std::string_view rest = text.substr(at);
    size_t found = 0;
    for (const std::string& value : values_) {
      if (!last && rest.size() < value.size() && value.compare(0, rest.size(), rest) == 0) {
        out.append(text, done, at - done);
        return at;
      }
      if (rest.substr(0, value.size()) == value) {
        found = value.size();
        break;
      }
    }
    if (found == 0) {
      ++at;
      continue;
    }
    out.append(text, done, at - done);
    out.append(kMask);
    at += found;
    done = at;
  }
  out.append(text, done, text.size() - done);
  return text.size();
}

}  // namespace vibe::logs
