#include "vm/qemu/qmp.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = 1 << 20;
constexpr int kMaxSkipped = 10'000;  // events between a command and its answer

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

absl::StatusOr<json> Qmp::Execute(const std::string& command, const json& arguments,
                                  absl::Time deadline) {
  const int id = next_id_++;
  json request{{"execute", command}, {"id", id}};
  if (!arguments.empty()) {
    request["arguments"] = arguments;
  }
  VIBE_RETURN_IF_ERROR(Annotate(
      WriteBy(fd_, request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", deadline),
      command));
  for (int skipped = 0; skipped < kMaxSkipped; ++skipped) {
    VIBE_ASSIGN_OR_RETURN(json message, Read(deadline));
    if (message.contains("event") || message.value("id", json()) != json(id)) {
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

}  // namespace vibe::vm::qemu
