#include "init/guest/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"

namespace vibe::init::guest {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Settings, WhatIsNotOursIsLeftAlone) {
  const absl::StatusOr<Settings> settings = ParseSettings("console=ttyS0 quiet panic=-1\n");
  ASSERT_TRUE(settings.ok());
  EXPECT_EQ(settings->uplink, Uplink::kSlirp);
  EXPECT_EQ(settings->hostname, "vibe");
  EXPECT_THAT(settings->listen, IsEmpty());
}

TEST(Settings, EverythingThatTheHostCanSay) {
  const absl::StatusOr<Settings> settings = ParseSettings(
      "vibe.net=dhcp vibe.data=vdb  vibe.listen=vsock:1024 vibe.listen=vport:a "
      "vibe.forward=vsock:1025 vibe.hostname=my-machine");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->uplink, Uplink::kDhcp);
  EXPECT_EQ(settings->data, "vdb");
  EXPECT_THAT(settings->listen, ElementsAre("vsock:1024", "vport:a"));
  EXPECT_THAT(settings->forward, ElementsAre("vsock:1025"));
  EXPECT_EQ(settings->hostname, "my-machine");
}

TEST(Settings, MisunderstandingsAreRefusedByName) {
  for (const char* word : {"vibe.net=bridge", "vibe.turbo=1", "vibe.data=../sda", "vibe.net",
                           "vibe.hostname=", "vibe.listen="}) {
    const absl::StatusOr<Settings> settings = ParseSettings(word);
    ASSERT_FALSE(settings.ok()) << word;
    EXPECT_TRUE(absl::StrContains(settings.status().message(), "vibe.")) << settings.status();
  }
}

}  // namespace
}  // namespace vibe::init::guest
