// A container that does one thing beside a project's services and goes: a program of an image that
// the project has, on folders that are given to it, without any network. Thread-safe; blocking.
#pragma once

#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "supervisor/service_container.h"

namespace vibe::supervisor {

struct ContainerJob {
  std::string ns;                    // the project's containerd namespace, which has the image
  std::string image;                 // normalized reference
  std::string cgroup;                // the cgroup that it gets one in
  std::vector<std::string> command;  // replaces the image's entrypoint and command
  std::map<std::string, std::string> env;
  std::string user;  // "uid:gid"
  std::vector<PlannedMount> mounts;
  absl::Duration timeout;
};

// Runs it to its end and removes it; the exit code. Cancelled when `stop` asks for it,
// DeadlineExceeded after the timeout: it was killed.
absl::StatusOr<uint32_t> RunJob(const Platform& platform, const ContainerJob& job,
                                std::stop_token stop);

// Removes the jobs in a namespace that an earlier supervisor left; those of this one run on.
absl::Status RemoveLeftJobs(containerd::Client& client, const std::string& ns);

}  // namespace vibe::supervisor
