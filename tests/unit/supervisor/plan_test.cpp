#include "supervisor/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <regex>
#include <set>

#include "base/status.h"
#include "golden.h"
#include "manifest/parse.h"

namespace vibe::supervisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

manifest::Manifest ManifestWith(
    const std::vector<std::pair<std::string, std::vector<std::string>>>& services) {
  manifest::Manifest manifest;
  manifest.id = "com.example.app";
  for (const auto& [name, depends_on] : services) {
    manifest::Service service;
    service.name = name;
    service.image = "alpine";
    service.depends_on = depends_on;
    manifest.services.push_back(service);
  }
  return manifest;
}

PlanInput InputFor(manifest::Manifest manifest) {
  PlanInput input;
  input.project_id = "0b6c1de4-50fb-4d0c-8bd6-d4f6b3a9e6b1";
  input.project_name = "app";
  input.manifest = std::move(manifest);
  input.project_dir = "/data/projects/p";
  input.run_dir = "/run/vibe/p";
  return input;
}

std::vector<std::string> Order(const Plan& plan) {
  std::vector<std::string> names;
  for (const PlannedService& service : plan.services) {
    names.push_back(service.name);
  }
  return names;
}

struct GoldenCase {
  const char* name;
  int network_index;
  bool has_files;
  bool grants;
};

class GoldenPlan : public testing::TestWithParam<GoldenCase> {};

TEST(ContainerIds, AreWhatContainerdAllowsWhateverTheService) {
  const std::regex allowed("[A-Za-z0-9]+([._-][A-Za-z0-9]+)*");
  std::set<std::string> ids;
  const std::vector<std::string> names = {"web", "web-2", "-a", "a-", "a--b", "a---b", "-", "--"};
  std::vector<std::pair<std::string, std::vector<std::string>>> services;
  for (const std::string& name : names) {
    services.push_back({name, {}});
  }
  const auto plan = MakePlan(InputFor(ManifestWith(services)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const PlannedService& service : plan->services) {
    EXPECT_TRUE(std::regex_match(service.container_id, allowed)) << service.container_id;
    ids.insert(service.container_id);
  }
  EXPECT_EQ(ids.size(), names.size()) << "two services share a container";
  EXPECT_EQ(ids.count("web-2"), 1u) << "a plain name is the container's id";
}

TEST_P(GoldenPlan, IsAsAgreed) {
  const GoldenCase& golden = GetParam();
  const std::string file = std::string("plan/") + golden.name;
  const manifest::ParseResult parsed = manifest::Parse(ReadGolden(file + ".yaml"));
  ASSERT_TRUE(parsed.manifest.has_value()) << manifest::ToStatus(parsed, file);
  PlanInput input = InputFor(*parsed.manifest);
  input.network_index = golden.network_index;
  input.grant_network = input.grant_expose_ports = golden.grants;
  input.has_files = golden.has_files;
  input.package_dir = golden.has_files ? "/data/packages/abc/app" : "";
  input.nameservers = {"10.0.2.3"};
  const auto plan = MakePlan(input);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ExpectGolden(file + ".json", ToJson(*plan));
}

INSTANTIATE_TEST_SUITE_P(Plans, GoldenPlan,
                         testing::Values(GoldenCase{"one-service", 0, false, false},
                                         GoldenCase{"bookmarks", 1, true, true},
                                         GoldenCase{"everything", 4095, true, true}),
                         [](const auto& golden) {
                           return std::regex_replace(golden.param.name, std::regex("-"), "_");
                         });

TEST(Plan, SameInputGivesSameBytes) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::pair<std::string, std::vector<std::string>>> services;
    const int count = 1 + static_cast<int>(random() % 20);
    for (int i = 0; i < count; ++i) {
      services.push_back({"s" + std::to_string(random() % 1000) + "-" + std::to_string(i), {}});
      for (int j = 0; j < i; ++j) {
        if (random() % 4 == 0) {
          services.back().second.push_back(services[static_cast<size_t>(j)].first);
        }
      }
    }
    std::shuffle(services.begin(), services.end(), random);
    const PlanInput input = InputFor(ManifestWith(services));
    const auto first = MakePlan(input);
    const auto second = MakePlan(input);
    ASSERT_TRUE(first.ok()) << first.status();
    ASSERT_TRUE(second.ok());
    EXPECT_EQ(ToJson(*first), ToJson(*second));
    // Every service comes after all that it waits for.
    const std::vector<std::string> order = Order(*first);
    for (size_t i = 0; i < order.size(); ++i) {
      for (const std::string& name : first->services[i].depends_on) {
        EXPECT_LT(std::find(order.begin(), order.end(), name) - order.begin(),
                  static_cast<std::ptrdiff_t>(i));
      }
    }
  }
}

TEST(Plan, KeepsTheManifestsOrderAmongEquals) {
  const auto plan = MakePlan(InputFor(ManifestWith(
      {{"web", {"db", "cache"}}, {"zeta", {}}, {"db", {}}, {"alpha", {}}, {"cache", {"zeta"}}})));
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(Order(*plan), ElementsAre("zeta", "db", "alpha", "cache", "web"));
}

TEST(Plan, AddressesDoNotDependOnTheStartOrder) {
  const auto plan = MakePlan(InputFor(ManifestWith({{"web", {"db"}}, {"db", {}}})));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->services[1].name, "web");
  EXPECT_EQ(plan->services[1].ipv4, "10.64.0.2");
  EXPECT_EQ(plan->services[1].netns, "vibe-0-0");
  EXPECT_EQ(plan->services[0].ipv4, "10.64.0.3");
}

TEST(Plan, NamesTheWholeCycle) {
  const auto plan = MakePlan(InputFor(
      ManifestWith({{"ok", {}}, {"front", {"a"}}, {"a", {"b"}}, {"b", {"c"}}, {"c", {"a"}}})));
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(ReasonOf(plan.status()), Reason::kInvalidManifest);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("a -> b -> c -> a"));
  EXPECT_THAT(std::string(plan.status().message()), Not(HasSubstr("front")));
}

TEST(Plan, RefusesAServiceThatWaitsForItselfOrForNobody) {
  const auto self = MakePlan(InputFor(ManifestWith({{"a", {"a"}}})));
  EXPECT_THAT(std::string(self.status().message()), HasSubstr("a -> a"));
  const auto unknown = MakePlan(InputFor(ManifestWith({{"a", {"nobody"}}})));
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("nobody"));
  EXPECT_EQ(ServiceOf(unknown.status()), "a");
}

TEST(Plan, RefusesNamesAndPathsThatLeadOut) {
  const auto refused = [](auto change) {
    manifest::Manifest manifest = ManifestWith({{"web", {}}});
    change(manifest.services[0]);
    const auto plan = MakePlan(InputFor(manifest));
    return !plan.ok() && ReasonOf(plan.status()) == Reason::kInvalidManifest;
  };
  EXPECT_TRUE(refused([](auto& s) { s.name = "../web"; }));
  EXPECT_TRUE(refused([](auto& s) { s.image = "no such/Image"; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"..", "/data"}}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"a/b", "/data"}}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"data", "relative"}}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"data", "/a/../../etc"}}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"data", "/"}}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"data", "/proc/sys"}}; }));
  EXPECT_TRUE(refused([](auto& s) { s.tmpfs = {"/sys"}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts = {{"a", "/data"}, {"b", "/data"}}; }));
  EXPECT_FALSE(refused([](auto& s) { s.mounts = {{"a", "/process"}}; }));
}

TEST(Plan, RefusesFoldersThatWouldChangeTheOverlaysOptions) {
  for (const char* folder : {"/data,upperdir=/etc", "/a:b", "/a\\b", "relative"}) {
    PlanInput input = InputFor(ManifestWith({{"web", {}}}));
    input.has_files = true;
    input.package_dir = folder;
    EXPECT_FALSE(MakePlan(input).ok()) << folder;
  }
}

TEST(Plan, GivesTheInternetOnlyWhenAskedForAndGranted) {
  for (const bool asked : {false, true}) {
    for (const bool granted : {false, true}) {
      PlanInput input = InputFor(ManifestWith({{"web", {}}}));
      input.manifest.network = asked;
      input.grant_network = granted;
      input.nameservers = {"192.0.2.53", "2001:db8::53"};
      const auto plan = MakePlan(input);
      ASSERT_TRUE(plan.ok());
      EXPECT_EQ(plan->internet, asked && granted);
      // It may be granted while the services run, and some read the file but once.
      EXPECT_EQ(RunFiles(*plan).at("resolv.conf"),
                "nameserver 192.0.2.53\nnameserver 2001:db8::53\n");
    }
  }
}

TEST(Plan, GivesServicesAllTheirNames) {
  manifest::Manifest manifest = ManifestWith({{"web", {"db"}}, {"db", {}}, {"localhost", {}}});
  manifest.services[0].aliases = {"www", "shop.internal"};
  manifest.services[2].aliases = {"other"};
  const auto plan = MakePlan(InputFor(manifest));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->hosts,
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
            "10.64.0.3 db\nfd76:6962:65::3 db\n"
            "10.64.0.4 other\nfd76:6962:65::4 other\n"
            "10.64.0.2 web\nfd76:6962:65::2 web\n"
            "10.64.0.2 www\nfd76:6962:65::2 www\n"
            "10.64.0.2 shop.internal\nfd76:6962:65::2 shop.internal\n");
}

TEST(Plan, RefusesAliasesThatLeadSomewhereElse) {
  for (const char* alias : {"web", "db", "www", "localhost", "10.64.0.2", "a\n127.0.0.1 b", ""}) {
    manifest::Manifest manifest = ManifestWith({{"web", {}}, {"db", {}}});
    manifest.services[0].aliases = {"www"};
    manifest.services[1].aliases = {alias};
    const auto plan = MakePlan(InputFor(manifest));
    EXPECT_EQ(ReasonOf(plan.status()), Reason::kInvalidManifest) << alias;
    EXPECT_EQ(ServiceOf(plan.status()), "db") << alias;
  }
}

TEST(Plan, GivesSettingsUnlessSomethingOfTheAppIsThere) {
  const auto targets = [](const std::string& volume_at, const std::string& tmpfs_at) {
    manifest::Manifest manifest = ManifestWith({{"web", {}}});
    manifest.services[0].mounts = {{"data", volume_at}};
    manifest.services[0].tmpfs = {tmpfs_at};
    const auto plan = MakePlan(InputFor(manifest));
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<std::string> found;
    for (const PlannedMount& mount : plan->services[0].default_settings) {
      EXPECT_THAT(mount.options, ElementsAre("rbind", "ro"));
      found.push_back(mount.target);
    }
    return found;
  };
  EXPECT_THAT(targets("/data", "/etc/app"),
              ElementsAre("/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"));
  EXPECT_THAT(targets("/etc/host.conf", "/etc/gai.conf"), ElementsAre("/etc/nsswitch.conf"));
  EXPECT_THAT(targets("/etc", "/tmp"), ElementsAre());
  EXPECT_THAT(targets("/data", "/etc"), ElementsAre());
}

TEST(Plan, WritesAFileForEachMountOfTheRunFolder) {
  const auto plan = MakePlan(InputFor(ManifestWith({{"web", {}}, {"db", {}}})));
  ASSERT_TRUE(plan.ok());
  const std::map<std::string, std::string> files = RunFiles(*plan);
  const std::string folder = "/run/vibe/p/";
  for (const PlannedService& service : plan->services) {
    std::vector<PlannedMount> mounts = service.mounts;
    mounts.insert(mounts.end(), service.default_settings.begin(), service.default_settings.end());
    EXPECT_EQ(mounts.size(), 6U);
    for (const PlannedMount& mount : mounts) {
      EXPECT_EQ(mount.source.rfind(folder, 0), 0U);
      EXPECT_EQ(files.count(mount.source.substr(folder.size())), 1U) << mount.source;
    }
  }
  EXPECT_EQ(files.at("web.hostname"), "web\n");
}

TEST(NamespaceName, IsOneThatContainerdAccepts) {
  const std::regex valid("[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*");
  for (const char* id : {"com.example.todo", "a.b--c-", "A.B", "...", "",
                         "com.example.a-really-long-name-that-goes-on.and-on"}) {
    const std::string name = NamespaceName(id, "p");
    EXPECT_TRUE(std::regex_match(name, valid)) << name;
    EXPECT_LE(name.size(), 76U);
  }
  EXPECT_EQ(NamespaceName("com.example.todo", "p").substr(0, 22), "vibe-com-example-todo-");
  EXPECT_NE(NamespaceName("com.example.todo", "p"), NamespaceName("com.example.todo", "q"));
}

}  // namespace
}  // namespace vibe::supervisor
