#include "cli/capabilities.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

struct Wording {
  absl::string_view name;
  absl::string_view wish;         // completes "wants to …"
  absl::string_view consequence;  // what a yes means
};

constexpr std::array<Wording, 3> kWordings = {{
    {"network", "reach the internet",
     "Its services can then send data to any address and fetch from it. Without it they reach only "
     "each "
     "other."},
    {"exposePorts", "be reachable from this computer",
     "Vibe then opens ports on 127.0.0.1, which programs and browsers on this computer can use; "
     "other "
     "computers cannot. Without it the app has no address."},
    {"hostFileImport", "let you bring files of this computer into it",
     "It sees only the files that you choose. Without it no file can be imported."},
}};

const Wording* FindWording(absl::string_view name) {
  for (const Wording& wording : kWordings) {
    if (wording.name == name) {
      return &wording;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<Capability> ParseCapabilities(const Json& inspection) {
  std::vector<Capability> capabilities;
  for (const Json& entry : ArrayAt(inspection, "capabilities")) {
    Capability capability;
    capability.name = StringAt(entry, "capability");
    capability.detail = StringAt(entry, "detail");
    if (entry.is_object() && entry.contains("decision") && entry["decision"].is_boolean()) {
      capability.decision = entry["decision"].get<bool>();
    }
    if (!capability.name.empty()) {
      capabilities.push_back(std::move(capability));
    }
  }
  return capabilities;
}

std::vector<std::string> CapabilityNames() {
  std::vector<std::string> names;
  for (const Wording& wording : kWordings) {
    names.emplace_back(wording.name);
  }
  return names;
}

bool IsCapability(const std::string& name) {
  return FindWording(name) != nullptr;
}

std::string DescribeCapability(const std::string& name) {
  const Wording* wording = FindWording(name);
  return wording == nullptr ? absl::StrCat("use ", Escape(name)) : std::string(wording->wish);
}

std::string CapabilityQuestion(const std::string& app, const Capability& capability) {
  const Wording* wording = FindWording(capability.name);
  std::string question = absl::StrCat(
      Escape(app), " wants to ",
      capability.detail.empty() ? DescribeCapability(capability.name) : Escape(capability.detail),
      ".");
  if (wording != nullptr) {
    absl::StrAppend(&question, "\n  ", wording->consequence);
  }
  return absl::StrCat(question, "\nAllow it?");
}

}  // namespace vibe::cli
