// The OCI runtime spec (1.0.2) of a service: hardened defaults, what the plan asks for, what the
// image says. Pure and thread-safe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "oci/image.h"
#include "supervisor/plan.h"

namespace vibe::supervisor {

struct ResolvedUser {
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
  std::string home = "/";
};

// Resolves "user", "uid", "user:group" … against the text of the image's /etc/passwd and
// /etc/group.
absl::StatusOr<ResolvedUser> ResolveUser(const std::string& user, const std::string& passwd,
                                         const std::string& group);

// The spec as JSON. `secrets` become environment variables. InvalidArgument when there is nothing
// to run.
absl::StatusOr<std::string> RuntimeSpec(const PlannedService& service,
                                        const oci::ImageConfig& image, const ResolvedUser& user,
                                        const std::map<std::string, std::string>& secrets);

// The "process" part alone, for exec: the service's environment, user and directory with other
// arguments. `user` null: the service's own.
std::string ExecProcess(const std::string& spec_json, const std::vector<std::string>& args,
                        const std::map<std::string, std::string>& env,
                        const std::string& working_dir, bool terminal,
                        const ResolvedUser* user = nullptr);

}  // namespace vibe::supervisor
