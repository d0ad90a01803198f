#include "vm/native/layout.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/sha256.h"

namespace vibe::vm::native {

std::string CgroupName(const std::filesystem::path& directory) {
  const std::string digest = Sha256Digest(directory.lexically_normal().string());
  return absl::StrCat("vibe-", absl::string_view(digest).substr(sizeof "sha256:" - 1, 12));
}

}  // namespace vibe::vm::native
