#include "vm/qemu/qmp.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = 1 << 20;
constexpr int kMaxSkipped = 10'000;  // events between a command and its answer
constexpr size_t kMaxEvents = 64;

std::string TextAt(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

absl::StatusOr<json> Qmp::Read(absl::Time deadline) {
  absl::StatusOr<std::string> line = ReadLineBy(fd_, kMaxLineBytes, deadline);
  if (absl::IsResourceExhausted(line.status())) {
    return absl::InternalError(absl::StrCat("qemu's control socket: ", line.status().message()));
  }
  VIBE_RETURN_IF_ERROR(Annotate(line.status(), "qemu's control socket"));
  json message = json::parse(*line, nullptr, /*allow_exceptions=*/false);
  if (!message.is_object()) {
    return absl::InternalError("qemu's control socket says what is no QMP");
  }
  return message;
}

absl::StatusOr<Qmp> Qmp::Connect(const std::filesystem::path& path, absl::Time deadline) {
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, ConnectUnixBy(path, deadline));
  Qmp qmp(std::move(fd));
  VIBE_ASSIGN_OR_RETURN(const json greeting, qmp.Read(deadline));
  if (!greeting.contains("QMP")) {
    return absl::InternalError("qemu's control socket does not greet");
  }
  VIBE_RETURN_IF_ERROR(qmp.Execute("qmp_capabilities", json::object(), deadline).status());
  return qmp;
}

void Qmp::Keep(json event) {
  events_.push_back(std::move(event));
  if (events_.size() > kMaxEvents) {
    events_.pop_front();
  }
}

absl::StatusOr<json> Qmp::Ask(const std::string& command, const json& arguments,
                              const UniqueFd* attached, absl::Time deadline) {
  const int id = next_id_++;
  json request{{"execute", command}, {"id", id}};
  if (!arguments.empty()) {
    request["arguments"] = arguments;
  }
  const std::string line = request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  VIBE_RETURN_IF_ERROR(Annotate(attached == nullptr
                                    ? WriteBy(fd_, line, deadline)
                                    : WriteWithDescriptorBy(fd_, line, *attached, deadline),
                                command));
  for (int skipped = 0; skipped < kMaxSkipped; ++skipped) {
    VIBE_ASSIGN_OR_RETURN(json message, Read(deadline));
    if (message.contains("event")) {
      Keep(std::move(message));
      continue;
    }
    if (message.value("id", json()) != json(id)) {
      continue;
    }
    if (message.contains("return")) {
      return std::move(message["return"]);
    }
    if (message.contains("error") && message["error"].is_object()) {
      return absl::FailedPreconditionError(
          absl::StrCat("qemu refuses ", command, ": ", TextAt(message["error"], "desc")));
    }
    return absl::InternalError(absl::StrCat("qemu's answer to ", command, " makes no sense"));
  }
  return absl::InternalError(absl::StrCat("qemu does not answer ", command));
}

absl::StatusOr<json> Qmp::Execute(const std::string& command, const json& arguments,
                                  absl::Time deadline) {
  return Ask(command, arguments, nullptr, deadline);
}

absl::Status Qmp::GiveDescriptor(const std::string& name, const UniqueFd& fd, absl::Time deadline) {
  return Ask("getfd", {{"fdname", name}}, &fd, deadline).status();
}

absl::StatusOr<json> Qmp::AwaitEvent(const std::string& event, absl::Time deadline) {
  for (int skipped = 0; skipped < kMaxSkipped; ++skipped) {
    const auto found = std::find_if(events_.begin(), events_.end(), [&](const json& message) {
      return TextAt(message, "event") == event;
    });
    if (found != events_.end()) {
      json data = found->value("data", json::object());
      events_.erase(found);
      return data;
    }
    VIBE_ASSIGN_OR_RETURN(json message, Read(deadline));
    if (message.contains("event")) {
      Keep(std::move(message));
    }
  }
  return absl::InternalError(absl::StrCat("qemu says much and never ", event));
}

}  // namespace vibe::vm::qemu
