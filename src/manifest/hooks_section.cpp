#include "manifest/hooks_section.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "manifest/section.h"

namespace vibe::manifest {
namespace {

constexpr size_t kMaxArguments = 256;
constexpr TextLimits kArgument = {.min = 0, .max = 2048, .controls = true};
// A save waits for it, and so does whoever asked for the save.
constexpr int64_t kMaxTimeoutMs = int64_t{10} * 60 * 1000;
constexpr char kExample[] = "[\"/app/flush\", \"--now\"]";

std::optional<Hook> ReadHook(Section& hooks, absl::string_view key) {
  const auto value = hooks.Find(key);
  if (!value) {
    return std::nullopt;
  }
  Diagnostics& diagnostics = hooks.diagnostics();
  Section section(*value, absl::StrCat("{command: ", kExample, ", timeout: 10s}"), diagnostics);
  Hook hook;
  if (const auto command = section.Require("command", absl::StrCat("command: ", kExample))) {
    hook.command = ReadTexts(*command, kMaxArguments, kArgument, kExample, diagnostics);
    const bool is_list = command->node->kind == TreeNode::Kind::kSequence;
    if (is_list &&
        (command->node->items.empty() || (!hook.command.empty() && hook.command[0].empty()))) {
      diagnostics.Error(command->place, absl::StrCat("needs a program to run, such as ", kExample));
    }
  }
  if (const auto timeout = section.Find("timeout")) {
    hook.timeout_ms =
        ReadDurationMs(*timeout, 1, kMaxTimeoutMs, "10m", diagnostics).value_or(hook.timeout_ms);
  }
  section.RefuseUnknownKeys();
  return hook;
}

}  // namespace

Hooks ReadHooks(const Value& value, Diagnostics& diagnostics) {
  Section section(value, absl::StrCat("{preSave: {command: ", kExample, "}}"), diagnostics);
  Hooks hooks;
  hooks.pre_save = ReadHook(section, "preSave");
  hooks.post_restore = ReadHook(section, "postRestore");
  section.RefuseUnknownKeys();
  return hooks;
}

}  // namespace vibe::manifest
