#include "manifest/references.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "manifest/nearest.h"

namespace vibe::manifest {
namespace {

using Index = std::map<absl::string_view, size_t>;  // a service's name to its place

Index CheckNames(const std::vector<ReadService>& services, Diagnostics& diagnostics) {
  Index index;
  for (size_t i = 0; i < services.size(); ++i) {
    const std::string& name = services[i].service.name;
    if (!name.empty() && !index.emplace(name, i).second) {
      diagnostics.Error(services[i].name, absl::StrCat("two services are called ", Quoted(name)));
    }
  }
  return index;
}

// A name of two services would lead to one of them, or to both by turns.
void CheckAliases(const std::vector<ReadService>& services, const Index& index,
                  Diagnostics& diagnostics) {
  std::map<absl::string_view, size_t> owners;
  for (size_t i = 0; i < services.size(); ++i) {
    for (size_t j = 0; j < services[i].aliases.size(); ++j) {
      const std::string& alias = services[i].service.aliases[j];
      if (index.find(alias) != index.end()) {
        diagnostics.Error(services[i].aliases[j],
                          absl::StrCat("another service is called ", Quoted(alias)));
      } else if (const auto [owner, is_new] = owners.emplace(alias, i); !is_new) {
        diagnostics.Error(services[i].aliases[j],
                          absl::StrCat(Quoted(alias), " is an alias of the service ",
                                       services[owner->second].service.name, " already"));
      }
    }
  }
}

// Finds the circles by walking along the dependencies; one for each edge that leads back to the way
// so far.
class CycleSearch {
 public:
  CycleSearch(const std::vector<ReadService>& services, const Index& index,
              Diagnostics& diagnostics)
      : services_(services),
        index_(index),
        diagnostics_(diagnostics),
        done_(services.size(), false) {}

  void Run() {
    for (size_t i = 0; i < services_.size(); ++i) {
      Visit(i);
    }
  }

 private:
  void Visit(size_t at) {  // at most kMaxServices deep
    if (done_[at]) {
      return;
    }
    way_.push_back(at);
    const ReadService& from = services_[at];
    for (size_t i = 0; i < from.depends_on.size(); ++i) {
      const auto to = index_.find(from.service.depends_on[i]);
      if (to == index_.end()) {
        continue;
      }
      const auto back = std::find(way_.begin(), way_.end(), to->second);
      if (back == way_.end()) {
        Visit(to->second);
      } else {
        diagnostics_.Error(from.depends_on[i], Describe({back, way_.end()}));
      }
    }
    way_.pop_back();
    done_[at] = true;
  }

  std::string Describe(std::vector<size_t> circle) const {
    circle.push_back(circle.front());
    const std::string names = absl::StrJoin(circle, " -> ", [&](std::string* out, size_t service) {
      absl::StrAppend(out, services_[service].service.name);
    });
    return absl::StrCat("the services wait for each other in a circle: ", names,
                        "; take one of these dependencies out");
  }

  const std::vector<ReadService>& services_;
  const Index& index_;
  Diagnostics& diagnostics_;
  std::vector<bool> done_;
  std::vector<size_t> way_;
};

void CheckDependencies(const std::vector<ReadService>& services, const Index& index,
                       Diagnostics& diagnostics) {
  std::vector<absl::string_view> names;
  for (const ReadService& read : services) {
    if (!read.service.name.empty()) {
      names.push_back(read.service.name);
    }
  }
  for (const ReadService& read : services) {
    for (size_t i = 0; i < read.depends_on.size(); ++i) {
      const std::string& name = read.service.depends_on[i];
      if (index.find(name) == index.end()) {
        diagnostics.Error(read.depends_on[i], absl::StrCat("there is no service ", Quoted(name),
                                                           Suggestion(name, names)));
      }
    }
  }
  CycleSearch(services, index, diagnostics).Run();
}

void CheckVolumes(const Manifest& app, const std::vector<ReadService>& services,
                  Diagnostics& diagnostics) {
  std::vector<absl::string_view> declared;
  for (const Volume& volume : app.state.volumes) {
    declared.push_back(volume.name);
  }
  for (const ReadService& read : services) {
    for (size_t i = 0; i < read.mounts.size(); ++i) {
      const std::string& name = read.service.mounts[i].volume;
      if (std::find(declared.begin(), declared.end(), name) == declared.end()) {
        const absl::string_view nearest = Nearest(name, declared);
        diagnostics.Error(
            read.mounts[i],
            absl::StrCat("the volume ", Quoted(name), " is not declared",
                         nearest.empty()
                             ? absl::StrCat(": add `- name: ", name, "` to state.volumes")
                             : absl::StrCat("; did you mean \"", nearest, "\"?")));
      }
    }
  }
}

void CheckSecrets(const Manifest& app, const std::vector<ReadService>& services,
                  Diagnostics& diagnostics) {
  for (const ReadService& read : services) {
    for (const Secret& secret : app.secrets) {
      if (read.service.env.count(secret.name) > 0) {
        diagnostics.Warning(read.env, absl::StrCat("the secret ", secret.name,
                                                   " takes the place of the variable here"));
      }
    }
  }
}

}  // namespace

void CheckReferences(const Manifest& app, const std::vector<ReadService>& services,
                     Diagnostics& diagnostics) {
  const Index index = CheckNames(services, diagnostics);
  CheckAliases(services, index, diagnostics);
  CheckDependencies(services, index, diagnostics);
  CheckVolumes(app, services, diagnostics);
  CheckSecrets(app, services, diagnostics);
}

}  // namespace vibe::manifest
