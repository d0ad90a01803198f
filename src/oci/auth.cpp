#include "oci/auth.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "oci/json.h"

namespace vibe::oci {
namespace {

constexpr size_t kMaxToken = 32 << 10;
constexpr size_t kMaxChallenges = 8;

bool IsTokenChar(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         absl::StrContains("-._~+/!#$%&'*^`|", c);
}

class Reader {
 public:
  explicit Reader(absl::string_view text) : rest_(text) {}

  bool done() const { return rest_.empty(); }

  void SkipSeparators() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == ',')) {
      rest_.remove_prefix(1);
    }
  }

  std::string Token() {
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), IsTokenChar);
    std::string token(rest_.begin(), end);
    rest_.remove_prefix(token.size());
    return token;
  }

  bool Take(char c) {
    if (rest_.empty() || rest_[0] != c) {
      return false;
    }
    rest_.remove_prefix(1);
    return true;
  }

  std::string Value() {
    if (!Take('"')) {
      return Token();
    }
    std::string value;
    while (!rest_.empty() && rest_[0] != '"') {
      if (rest_[0] == '\\' && rest_.size() > 1) {
        rest_.remove_prefix(1);
      }
      value.push_back(rest_[0]);
      rest_.remove_prefix(1);
    }
    Take('"');
    return value;
  }

  void Skip() { rest_.remove_prefix(1); }

 private:
  absl::string_view rest_;
};

}  // namespace

std::vector<Challenge> ParseChallenges(absl::string_view header) {
  std::vector<Challenge> challenges;
  Reader reader(header);
  while (true) {
    reader.SkipSeparators();
    if (reader.done()) {
      return challenges;
    }
    const std::string word = absl::AsciiStrToLower(reader.Token());
    if (word.empty()) {
      reader.Skip();
    } else if (reader.Take('=')) {
      const std::string value = reader.Value();
      if (!challenges.empty()) {
        challenges.back().parameters.emplace(word, value);
      }
    } else if (challenges.size() < kMaxChallenges) {
      challenges.push_back({word, {}});
    } else {
      return challenges;
    }
  }
}

absl::StatusOr<std::string> ParseToken(absl::string_view json) {
  const absl::StatusOr<nlohmann::json> document = ParseObject(json, "the token");
  for (const char* name : {"token", "access_token"}) {
    if (!document.ok()) {
      break;
    }
    absl::StatusOr<std::string> token = StringMember(*document, name, kMaxToken);
    if (token.ok() && !token->empty() &&
        std::all_of(token->begin(), token->end(), [](char c) { return c > ' ' && c < 0x7f; })) {
      return token;
    }
  }
  // The document is left out of the message: it may hold half a token.
  return absl::DataLossError("the token server's answer holds no token");
}

}  // namespace vibe::oci
