#include "oci/reference.h"

#include <gtest/gtest.h>

#include <string>

namespace vibe::oci {
namespace {

const std::string kHex(64, 'a');

TEST(ReferenceTest, ReadsWhatDockerReads) {
  struct Case {
    std::string text, registry, repository, tag, digest;
  };
  const std::string digest = "sha256:" + kHex;
  for (const Case& c : {
           Case{"postgres", "docker.io", "library/postgres", "latest", ""},
           Case{"postgres:15", "docker.io", "library/postgres", "15", ""},
           Case{"bitnami/redis:7.2-r1", "docker.io", "bitnami/redis", "7.2-r1", ""},
           Case{"docker.io/postgres", "docker.io", "library/postgres", "latest", ""},
           Case{"index.docker.io/a/b", "docker.io", "a/b", "latest", ""},
           Case{"ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", "v1", ""},
           Case{"localhost/x", "localhost", "x", "latest", ""},
           Case{"localhost:5000/x", "localhost:5000", "x", "latest", ""},
           Case{"localhost:5000", "docker.io", "library/localhost", "5000", ""},
           Case{"Host/x", "Host", "x", "latest", ""},
           Case{"127.0.0.1:5000/a/b:c", "127.0.0.1:5000", "a/b", "c", ""},
           Case{"[::1]:5000/x:y", "[::1]:5000", "x", "y", ""},
           Case{"x@" + digest, "docker.io", "library/x", "", digest},
           Case{"r.io/x:1@" + digest, "r.io", "x", "1", digest},
           Case{"a__b/c-d--e/f.g_h", "docker.io", "a__b/c-d--e/f.g_h", "latest", ""},
           Case{"x:_A.b-C", "docker.io", "library/x", "_A.b-C", ""},
       }) {
    const auto reference = ParseReference(c.text);
    ASSERT_TRUE(reference.ok()) << c.text << ": " << reference.status();
    EXPECT_EQ(reference->registry, c.registry) << c.text;
    EXPECT_EQ(reference->repository, c.repository) << c.text;
    EXPECT_EQ(reference->tag, c.tag) << c.text;
    EXPECT_EQ(reference->digest, c.digest) << c.text;
    const auto again = ParseReference(reference->ToString());
    ASSERT_TRUE(again.ok()) << "the normalized name is a name: " << reference->ToString();
    EXPECT_EQ(again->ToString(), reference->ToString());
  }
}

TEST(ReferenceTest, WritesTheNormalizedName) {
  EXPECT_EQ(ParseReference("postgres:15").value().ToString(), "docker.io/library/postgres:15");
  EXPECT_EQ(ParseReference("r.io/x@sha256:" + kHex).value().ToString(), "r.io/x@sha256:" + kHex);
}

TEST(ReferenceTest, RefusesWhatIsNoReference) {
  for (const std::string& text : std::vector<std::string>{"",
                                                          "/",
                                                          "x/",
                                                          "/x",
                                                          "a//b",
                                                          "X",
                                                          "a/B",
                                                          "x:",
                                                          "x:-a",
                                                          "x:.a",
                                                          "x: a",
                                                          "x:a/b:",
                                                          "-x",
                                                          "x-",
                                                          "x.",
                                                          "a..b",
                                                          "a___b",
                                                          "a._b",
                                                          "x y",
                                                          "x\n",
                                                          std::string("x\0", 2),
                                                          "x@",
                                                          "x@sha256:abc",
                                                          "x@sha256:" + std::string(64, 'A'),
                                                          "x@sha512:" + std::string(128, 'a'),
                                                          "x@" + kHex,
                                                          kHex,
                                                          "https://r.io/x",
                                                          "r.io:0/x",
                                                          "r.io:65536/x",
                                                          "r.io:/x",
                                                          "r.io:a/x",
                                                          "-r.io/x",
                                                          "r..io/x",
                                                          "[::1/x",
                                                          "[]/x",
                                                          "[zz]/x",
                                                          "a@b/x",
                                                          "../x",
                                                          "a/../b",
                                                          "r.io/../x",
                                                          "x%2e",
                                                          "\xc3\xa4",
                                                          "x:" + std::string(129, 'a'),
                                                          "r.io/" + std::string(256, 'a'),
                                                          std::string(513, 'a')}) {
    const auto reference = ParseReference(text);
    EXPECT_EQ(reference.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ReferenceTest, TheMessageShowsNoControlCharacters) {
  const auto status = ParseReference("x\x1b[31m\n").status();
  for (const char c : status.message()) {
    EXPECT_GE(c, ' ');
  }
}

TEST(ReferenceTest, KnowsDigests) {
  EXPECT_TRUE(IsDigest("sha256:" + kHex));
  EXPECT_FALSE(IsDigest("sha256:" + std::string(63, 'a')));
  EXPECT_FALSE(IsDigest("sha256:" + std::string(64, 'G')));
  EXPECT_FALSE(IsDigest("sha256:../" + std::string(61, 'a')));
}

}  // namespace
}  // namespace vibe::oci
