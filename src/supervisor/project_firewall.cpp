#include "supervisor/project_firewall.h"

#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::supervisor {

void ProjectFirewall::Set(const std::string& id, const Plan& plan, bool internet) {
  absl::MutexLock lock(&mutex_);
  projects_[id] = {.index = plan.network_index,
                   .services = static_cast<int>(plan.services.size()),
                   .internet = internet};
}

void ProjectFirewall::Forget(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  projects_.erase(id);
}

void ProjectFirewall::SetInternet(const std::string& id, bool internet) {
  absl::MutexLock lock(&mutex_);
  if (const auto found = projects_.find(id); found != projects_.end()) {
    found->second.internet = internet;
  }
}

absl::Status ProjectFirewall::Apply() {
  absl::MutexLock kernel(&kernel_);
  network::FirewallState wanted{.host = host_.addresses()};
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, project] : projects_) {
      wanted.projects.push_back(project);
    }
  }
  if (const network::AddressPool pool = host_.pool(); options_.pool != pool) {
    options_.pool = pool;
    applied_.reset();
  }
  if (applied_) {
    const std::string change = network::FirewallChange(*applied_, wanted, options_);
    if (change.empty()) {
      return absl::OkStatus();
    }
    const absl::Status changed = network::ApplyFirewall(change);
    if (changed.ok()) {
      applied_ = std::move(wanted);
      return absl::OkStatus();
    }
    spdlog::warn("the firewall is made anew: {}", changed.ToString());
    applied_.reset();
  }
  VIBE_RETURN_IF_ERROR(network::ApplyFirewall(network::FirewallText(wanted, options_)));
  applied_ = std::move(wanted);
  return absl::OkStatus();
}

}  // namespace vibe::supervisor
