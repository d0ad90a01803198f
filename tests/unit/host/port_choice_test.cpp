#include "host/port_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace vibe::host {
namespace {

using manifest::Protocol;
using ::testing::HasSubstr;

ProjectRecord Project(const std::string& name, uint16_t host_port) {
  ProjectRecord record;
  record.id = name;
  record.name = name;
  record.path = "/apps/" + name;
  record.services = {
      {"web", "image", {{80, Protocol::kTcp, true, host_port}, {81, Protocol::kTcp, false, 0}}},
      {"dns", "image", {{53, Protocol::kTcp, true, 0}, {53, Protocol::kUdp, true, 0}}},
      {"db", "image", {}}};
  return record;
}

absl::Status Apply(const std::vector<std::string>& texts, ProjectRecord& record,
                   const std::vector<ProjectRecord>& others = {}) {
  std::vector<PortChoice> choices;
  for (const std::string& text : texts) {
    const auto choice = ParsePortChoice(text);
    EXPECT_TRUE(choice.ok()) << choice.status();
    choices.push_back(*choice);
  }
  return ApplyPortChoices(choices, others, record);
}

TEST(PortChoice, TheOnlyExposedPortNeedsNoNumber) {
  ProjectRecord record = Project("p", 20001);
  ASSERT_TRUE(Apply({"web:8080"}, record).ok());
  EXPECT_EQ(record.services[0].ports[0].host_port, 8080);
  ASSERT_TRUE(Apply({"web:0"}, record).ok());
  EXPECT_EQ(record.services[0].ports[0].host_port, 0) << "Vibe chooses again";
}

TEST(PortChoice, OneOfSeveralIsNamed) {
  ProjectRecord record = Project("p", 0);
  EXPECT_THAT(std::string(Apply({"dns:5353"}, record).message()), HasSubstr("53/tcp, 53/udp"));
  EXPECT_THAT(AdviceOf(Apply({"dns:5353:53"}, record)), HasSubstr("dns:5353:53/tcp"))
      << "what was typed is said again";
  ASSERT_TRUE(Apply({"dns:5353:53/udp", "dns:5353/tcp"}, record).ok())
      << "TCP and UDP have numbers of their own";
  EXPECT_EQ(record.services[1].ports[0].host_port, 5353);
  EXPECT_EQ(record.services[1].ports[1].host_port, 5353);
}

TEST(PortChoice, WhatIsNotThereIsAnError) {
  ProjectRecord record = Project("p", 0);
  EXPECT_EQ(ReasonOf(Apply({"nobody:80"}, record)), Reason::kNotFound);
  EXPECT_TRUE(absl::IsInvalidArgument(Apply({"web:8080:81"}, record))) << "it is not exposed";
  EXPECT_TRUE(absl::IsInvalidArgument(Apply({"db:5432"}, record)));
  EXPECT_THAT(std::string(Apply({"db:5432"}, record).message()), HasSubstr("db exposes no port"));
  EXPECT_THAT(std::string(Apply({"web:8080:80/udp"}, record).message()),
              HasSubstr("no such port 80/udp; it exposes 80"));
}

TEST(PortChoice, APortOfAnotherProjectIsAConflictThatNamesIt) {
  ProjectRecord record = Project("p", 0);
  const absl::Status status = Apply({"web:8080"}, record, {Project("other", 8080)});
  EXPECT_EQ(ReasonOf(status), Reason::kPortConflict);
  EXPECT_THAT(std::string(status.message()), HasSubstr("web of the project other"));
  EXPECT_TRUE(Apply({"web:8080"}, record, {Project("p", 8080)}).ok()) << "it is its own";
  EXPECT_EQ(ReasonOf(Apply({"web:8081", "dns:8081:53/tcp"}, record)), Reason::kPortConflict);
}

TEST(PortChoice, TheCommandThatGivesAPortUpIsOneThatWorks) {
  ProjectRecord record = Project("p", 0);
  ProjectRecord other = Project("other", 8080);
  other.path = "/apps/app one";
  other.services[1].ports[1].host_port = 5353;
  EXPECT_THAT(AdviceOf(Apply({"web:8080"}, record, {other})),
              HasSubstr("`vibe open '/apps/app one' --name other --port web:0`"));
  EXPECT_THAT(AdviceOf(Apply({"dns:5353/udp"}, record, {other})),
              HasSubstr("--port dns:0:53/udp`"));
  other.path.clear();
  EXPECT_EQ(AdviceOf(Apply({"web:8080"}, record, {other})), "choose another port");
}

TEST(PortChoice, OnePortIsChosenOnce) {
  ProjectRecord record = Project("p", 0);
  EXPECT_THAT(std::string(Apply({"web:8080", "web:8081:80"}, record).message()),
              HasSubstr("two ports are chosen for 80 of web"));
}

class Malformed : public testing::TestWithParam<std::string> {};

TEST_P(Malformed, IsRefused) {
  EXPECT_FALSE(ParsePortChoice(GetParam()).ok());
}

INSTANTIATE_TEST_SUITE_P(PortChoice, Malformed,
                         testing::Values("", "web", "web:", ":8080", "8080", "web:65536", "web:-1",
                                         "web: 80", "web:80:0", "web:80:x", "web:1:2:3",
                                         "web:8080/icmp", "web:99999999999999999999"));

}  // namespace
}  // namespace vibe::host
