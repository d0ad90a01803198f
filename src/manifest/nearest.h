// The known word that a misspelt one was meant to be. Pure.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace vibe::manifest {

// The number of letters that have to be put in, taken out, changed or swapped with their neighbour.
size_t EditDistance(absl::string_view a, absl::string_view b);

// Letter case, '_' and '-' count little, since other formats write workingDir as working_dir. Among
// equals the first of `known`. Empty when none is near.
absl::string_view Nearest(absl::string_view word, absl::Span<const absl::string_view> known);

// "; did you mean \"x\"?" for the nearest, or "; known are a, b, c" when none is near.
std::string Suggestion(absl::string_view word, absl::Span<const absl::string_view> known);

}  // namespace vibe::manifest
