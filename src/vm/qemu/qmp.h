// One conversation with qemu's control socket (QMP). qemu holds one at a time: it is kept short.
// One thread at a time.
#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace vibe::vm::qemu {

class Qmp {
 public:
  // Unavailable when no qemu listens at `path`, DeadlineExceeded when it does not answer.
  static absl::StatusOr<Qmp> Connect(const std::filesystem::path& path, absl::Time deadline);

  // The command's "return". FailedPrecondition with qemu's own words when it refuses; Unavailable
  // when the connection broke, DeadlineExceeded, or Internal for what is no QMP: after these three
  // the conversation is over. Events that come meanwhile wait for AwaitEvent.
  absl::StatusOr<nlohmann::json> Execute(const std::string& command,
                                         const nlohmann::json& arguments, absl::Time deadline);

  // Gives qemu a duplicate of `fd`, which commands know as `name` from then on.
  absl::Status GiveDescriptor(const std::string& name, const UniqueFd& fd, absl::Time deadline);

  // Returns when qemu has told of the event, once for each time that it did, with its "data".
  // Errors as for Execute.
  absl::StatusOr<nlohmann::json> AwaitEvent(const std::string& event, absl::Time deadline);

 private:
  explicit Qmp(UniqueFd fd) : fd_(std::move(fd)) {}
  absl::StatusOr<nlohmann::json> Read(absl::Time deadline);
  absl::StatusOr<nlohmann::json> Ask(const std::string& command, const nlohmann::json& arguments,
                                     const UniqueFd* attached, absl::Time deadline);
  void Keep(nlohmann::json event);

  UniqueFd fd_;
  std::deque<nlohmann::json> events_;  // nobody waited for yet; the newest only
  int next_id_ = 1;
};

}  // namespace vibe::vm::qemu
