#include "http/url.h"

#include <gtest/gtest.h>

namespace vibe::http {
namespace {

TEST(UrlTest, ReadsAbsoluteUrls) {
  const Url url = ParseUrl("https://Auth.Example.com/token?a=b#part").value();
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.host, "auth.example.com");
  EXPECT_EQ(url.port, 443);
  EXPECT_EQ(url.target, "/token?a=b");
  EXPECT_EQ(ParseUrl("http://h:81?x=1").value().target, "/?x=1");
  EXPECT_EQ(ParseUrl("http://[::1]:5000/").value().Authority(), "[::1]:5000");
  EXPECT_EQ(ParseUrl("http://h").value().Authority(), "h");
}

TEST(UrlTest, RefusesWhatCouldMisleadTheClient) {
  for (const char* text :
       {"", "/path", "ftp://h/", "file:///etc/passwd", "http://", "http://user:pass@h/",
        "http://h:0/", "http://h:65536/", "http://h:+1/", "http://h:x/", "http://h /",
        "http://h/a b", "http://h/a\r\nX: y", "http://[::1/", "http://h%41/", "http://\xc3\xa4/"}) {
    EXPECT_FALSE(ParseUrl(text).ok()) << text;
  }
  EXPECT_FALSE(ParseUrl("http://h/" + std::string(20000, 'a')).ok());
}

TEST(UrlTest, ResolvesLocations) {
  const Url base = ParseUrl("https://h/v2/x/blobs/1?q").value();
  EXPECT_EQ(ResolveUrl(base, "/y").value().target, "/y");
  EXPECT_EQ(ResolveUrl(base, "2").value().target, "/v2/x/blobs/2");
  EXPECT_EQ(ResolveUrl(base, "?z").value().target, "/v2/x/blobs/1?z");
  EXPECT_EQ(ResolveUrl(base, "//other/y").value().Origin(), "https://other:443");
  EXPECT_EQ(ResolveUrl(base, "http://other/y").value().Origin(), "http://other:80");
  EXPECT_FALSE(ResolveUrl(base, "javascript:alert").ok());
  EXPECT_FALSE(ResolveUrl(base, "a\r\nb").ok());
}

TEST(UrlTest, OnlyRealLoopbackIsLoopback) {
  for (const char* host : {"localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"127.0.0.1.example.com", "127.example.com", "localhost.example.com",
                           "127.1", "1270.0.0.1", "128.0.0.1", "127.0.0.256"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(UrlTest, EncodesQueryValues) {
  EXPECT_EQ(EncodeQueryValue("repository:a/b:pull&x=\n"), "repository%3Aa%2Fb%3Apull%26x%3D%0A");
}

}  // namespace
}  // namespace vibe::http
