// Replaces known secret values in a stream of text by "***". Standard library only, see
// record_line.h. A SecretMask does not change once it is made: thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace vibe::logs {

class SecretMask {
 public:
  // Shorter values are too likely to be found where they are no secret.
  static constexpr size_t kMinBytes = 4;

  SecretMask() = default;
  // Of a value with several lines each line is masked on its own, without the blanks around it,
  // since output is masked line by line.
  explicit SecretMask(const std::vector<std::string>& values);

  // Appends `text` to `out`, masked. Unless `last`, stops where a value could begin that ends only
  // in the text to come; returns how many bytes of `text` it has dealt with, and wants the others
  // again.
  size_t Apply(std::string_view text, bool last, std::string& out) const;

 private:
  std::vector<std::string> values_;   // longest first
  std::array<bool, 256> first_ = {};  // which bytes a value can begin with
};

}  // namespace vibe::logs
