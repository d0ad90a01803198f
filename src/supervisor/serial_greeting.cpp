#include "supervisor/serial_greeting.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace vibe::supervisor {
namespace {

constexpr size_t kNonceDigits = 32;

}  // namespace

SerialGreeting::SerialGreeting(const std::string& secret)
    : beginning_(absl::StrCat("\nVIBE ", secret, " ")) {}

std::optional<size_t> SerialGreeting::Find(absl::string_view bytes) {
  const size_t length = beginning_.size() + kNonceDigits + 1;
  const size_t before = tail_.size();
  absl::StrAppend(&tail_, bytes);
  std::optional<size_t> end;
  for (size_t i = tail_.find(beginning_); i != std::string::npos && i + length <= tail_.size();
       i = tail_.find(beginning_, i + 1)) {
    const std::string nonce = tail_.substr(i + beginning_.size(), kNonceDigits);
    if (tail_[i + length - 1] == '\n' &&
        std::all_of(nonce.begin(), nonce.end(),
                    [](unsigned char c) { return absl::ascii_isxdigit(c); })) {
      nonce_ = nonce;
      end = i + length - before;
    }
  }
  // A greeting that was found must not be found again.
  tail_.erase(0, end ? before + *end : 0);
  tail_.erase(0, tail_.size() - std::min(tail_.size(), length - 1));
  return end;
}

}  // namespace vibe::supervisor
