#include "oci/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/sha256.h"
#include "base/status.h"
#include "scripted_server.h"

namespace vibe::oci {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Reply;
using testing::ScriptedReply;
using testing::ScriptedServer;
using testing::SeenRequest;

constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
constexpr char kTypeHeader[] = "Content-Type: application/vnd.oci.image.manifest.v1+json";
constexpr char kManifest[] = R"({"schemaVersion":2,"layers":[]})";
constexpr char kNotFoundBody[] = R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"nope"}]})";

RegistryOptions Quick() {
  RegistryOptions options;
  options.connect_timeout = absl::Seconds(5);
  options.read_timeout = absl::Seconds(5);
  return options;
}

std::unique_ptr<ImageSource> Open(const std::string& registry,
                                  const RegistryOptions& options = Quick()) {
  return OpenRegistry(ParseReference(registry + "/x:y").value(), options);
}

Descriptor BlobOf(const std::string& content) {
  return {"application/vnd.oci.image.layer.v1.tar", Sha256Digest(content),
          static_cast<int64_t>(content.size())};
}

struct Fetched {
  absl::Status status;
  std::string bytes;
};

Fetched Fetch(ImageSource& source, const Descriptor& blob, int64_t offset = 0) {
  Fetched fetched;
  fetched.status = source.ReadBlob(blob, offset, [&](absl::string_view bytes) {
    absl::StrAppend(&fetched.bytes, bytes);
    return absl::OkStatus();
  });
  return fetched;
}

// Every failure of a source is one that the product can show.
void ExpectFailure(const absl::Status& status, absl::StatusCode code, const std::string& text) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/x:y: "));
  EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
  EXPECT_NE(AdviceOf(status), "");
}

// A server that answers 401 until the request carries `token`, and gives the token out at /token.
ScriptedServer::Handler Guarded(const std::string& token, const std::string& realm_host,
                                ScriptedServer::Handler inner) {
  return [=](const SeenRequest& request) {
    if (absl::StartsWith(request.target, "/token")) {
      return Reply(200, absl::StrCat(R"({"token":")", token, R"("})"));
    }
    if (request.Header("Authorization") != "Bearer " + token) {
      const std::string host = realm_host.empty() ? request.Header("Host") : realm_host;
      return Reply(401, "{}",
                   {absl::StrCat("WWW-Authenticate: Bearer realm=\"http://", host,
                                 "/token?a=b\",service=\"the registry\"")});
    }
    return inner(request);
  };
}

TEST(RegistryTest, ResolvesATagAndReadsItOnce) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, kManifest, {kTypeHeader}); });
  const auto source = Open(server.Address());
  const Descriptor descriptor = source->Resolve().value();
  EXPECT_EQ(descriptor.digest, Sha256Digest(kManifest));
  EXPECT_EQ(descriptor.media_type, kManifestType);
  EXPECT_EQ(descriptor.size, static_cast<int64_t>(sizeof kManifest - 1));
  EXPECT_EQ(source->ReadDocument(descriptor).value(), kManifest);
  ASSERT_EQ(server.requests().size(), 1u);
  const SeenRequest seen = server.requests()[0];
  EXPECT_EQ(seen.target, "/v2/x/manifests/y");
  EXPECT_THAT(seen.Header("Accept"), HasSubstr(kIndexType));
  EXPECT_THAT(seen.Header("Accept"), HasSubstr("manifest.list.v2+json"));
  EXPECT_EQ(seen.Header("Authorization"), "");
}

TEST(RegistryTest, FindsTheMediaTypeInTheDocumentWhenTheHeaderIsVague) {
  ScriptedServer server([](const SeenRequest&) {
    return Reply(200, R"({"schemaVersion":2,"manifests":[]})",
                 {"Content-Type: application/json; charset=utf-8"});
  });
  EXPECT_EQ(Open(server.Address())->Resolve().value().media_type, kIndexType);
}

TEST(RegistryTest, WhatIsNoImageIsRefused) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, R"({"schemaVersion":1})"); });
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kDataLoss,
                "not an image");
}

TEST(RegistryTest, AReferenceByDigestIsCheckedAgainstIt) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, "{}", {kTypeHeader}); });
  const std::string name = absl::StrCat(server.Address(), "/x:y@", Sha256Digest(kManifest));
  const auto source = OpenRegistry(ParseReference(name).value(), Quick());
  EXPECT_EQ(source->Resolve().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(server.requests()[0].target, "/v2/x/manifests/" + Sha256Digest(kManifest));
}

TEST(RegistryTest, AStatedDigestMustFit) {
  ScriptedServer server([](const SeenRequest&) {
    return Reply(200, kManifest, {kTypeHeader, "Docker-Content-Digest: " + Sha256Digest("other")});
  });
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kDataLoss,
                "other bytes");
}

TEST(RegistryTest, DocumentsWithTheWrongDigestAreRefused) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, "12345"); });
  Descriptor descriptor = BlobOf("54321");
  ExpectFailure(Open(server.Address())->ReadDocument(descriptor).status(),
                absl::StatusCode::kDataLoss, "other bytes");
  EXPECT_EQ(server.requests()[0].target, "/v2/x/blobs/" + descriptor.digest);
  descriptor = BlobOf("12345");
  EXPECT_EQ(Open(server.Address())->ReadDocument(descriptor).value(), "12345");
  descriptor.size = 9 << 20;
  EXPECT_EQ(Open(server.Address())->ReadDocument(descriptor).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(RegistryTest, ADocumentWithoutEndIsRefused) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, std::string(9 << 20, ' ')); });
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kDataLoss, "8 MiB");
}

TEST(RegistryTest, AMissingImageIsSaidSo) {
  ScriptedServer server([](const SeenRequest&) { return Reply(404, kNotFoundBody); });
  const absl::Status status = Open(server.Address())->Resolve().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), server.Address() + "/x:y: no such image");
  EXPECT_EQ(server.requests().size(), 1u) << "asking again would not help";
  ExpectFailure(status, absl::StatusCode::kNotFound, "no such image");
}

TEST(RegistryTest, ARegistryThatIsDownIsNamed) {
  std::string address;
  {
    ScriptedServer server([](const SeenRequest&) { return Reply(200, ""); });
    address = server.Address();
  }
  ExpectFailure(Open(address)->Resolve().status(), absl::StatusCode::kUnavailable,
                absl::StrCat("registry ", address, " does not answer (connection refused)"));
}

TEST(RegistryTest, ASilentRegistryIsUnavailable) {
  ScriptedReply silence;
  silence.hang = true;
  ScriptedServer server([&](const SeenRequest&) { return silence; });
  RegistryOptions options = Quick();
  options.read_timeout = absl::Milliseconds(100);
  options.attempts = 1;
  ExpectFailure(Open(server.Address(), options)->Resolve().status(), absl::StatusCode::kUnavailable,
                "registry " + server.Address());
}

TEST(RegistryTest, TriesAgainAfterATemporaryFailure) {
  for (const int status : {500, 502, 503, 504, 429}) {
    std::atomic<int> count{0};
    ScriptedServer server([&](const SeenRequest&) {
      return ++count < 3 ? Reply(status, "wait") : Reply(200, kManifest, {kTypeHeader});
    });
    EXPECT_TRUE(Open(server.Address())->Resolve().ok()) << status;
    EXPECT_EQ(count, 3);
  }
}

TEST(RegistryTest, GivesUpAfterTheLastAttempt) {
  ScriptedServer server([](const SeenRequest&) { return Reply(503, "{}"); });
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kUnavailable,
                "answered 503");
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST(RegistryTest, GetsATokenAndKeepsIt) {
  ScriptedServer server(Guarded(
      "t0ken", "", [](const SeenRequest&) { return Reply(200, kManifest, {kTypeHeader}); }));
  const auto source = Open(server.Address());
  ASSERT_TRUE(source->Resolve().ok());
  const auto seen = server.requests();
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[1].target, "/token?a=b&scope=repository%3Ax%3Apull&service=the%20registry");
  EXPECT_EQ(seen[1].Header("Authorization"), "") << "anonymous";
  EXPECT_EQ(seen[2].Header("Authorization"), "Bearer t0ken");
  EXPECT_EQ(seen[2].connection, 0) << "one connection serves all";
  Fetch(*source, BlobOf(kManifest));
  EXPECT_EQ(server.requests().size(), 4u) << "the token is used again";
}

TEST(RegistryTest, ALoginGoesToTheTokenServer) {
  ScriptedServer server(Guarded(
      "t0ken", "", [](const SeenRequest&) { return Reply(200, kManifest, {kTypeHeader}); }));
  RegistryOptions options = Quick();
  options.username = "me";
  options.password = "pass:word";
  ASSERT_TRUE(Open(server.Address(), options)->Resolve().ok());
  EXPECT_EQ(server.requests()[0].Header("Authorization"), "") << "not before it is asked for";
  EXPECT_EQ(server.requests()[1].Header("Authorization"),
            "Basic " + absl::Base64Escape("me:pass:word"));
}

TEST(RegistryTest, BasicLogin) {
  ScriptedServer server([](const SeenRequest& request) {
    return request.Header("Authorization") == "Basic " + absl::Base64Escape("me:pw")
               ? Reply(200, kManifest, {kTypeHeader})
               : Reply(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
  });
  RegistryOptions options = Quick();
  options.username = "me";
  options.password = "pw";
  EXPECT_TRUE(Open(server.Address(), options)->Resolve().ok());
  options.password = "wr0ng";
  const absl::Status status = Open(server.Address(), options)->Resolve().status();
  ExpectFailure(status, absl::StatusCode::kUnauthenticated, "needs a login");
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("wr0ng")));
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kUnauthenticated,
                "login");
}

TEST(RegistryTest, ATokenThatHelpsNothingEndsIt) {
  ScriptedServer server([](const SeenRequest& request) {
    return absl::StartsWith(request.target, "/token")
               ? Reply(200, R"({"token":"s3cret"})")
               : Reply(401, "",
                       {absl::StrCat("WWW-Authenticate: Bearer realm=\"http://",
                                     request.Header("Host"), "/token\"")});
  });
  const absl::Status status = Open(server.Address())->Resolve().status();
  ExpectFailure(status, absl::StatusCode::kUnauthenticated, "needs a login");
  EXPECT_THAT(status.ToString(), Not(HasSubstr("s3cret")));
  EXPECT_LE(server.requests().size(), 3u);
}

TEST(RegistryTest, ARefusingTokenServerIsNamed) {
  ScriptedServer server([](const SeenRequest& request) {
    return absl::StartsWith(request.target, "/token")
               ? Reply(403, "{}")
               : Reply(401, "",
                       {absl::StrCat("WWW-Authenticate: Bearer realm=\"http://",
                                     request.Header("Host"), "/token\"")});
  });
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kUnauthenticated,
                "token server 127.0.0.1 answered 403");
}

TEST(RegistryTest, RedirectsAreFollowedWithoutTheToken) {
  const std::string content = "layer bytes";
  ScriptedServer storage([&](const SeenRequest&) { return Reply(200, content); });
  ScriptedServer server(Guarded("t0ken", "", [&](const SeenRequest&) {
    return Reply(307, "elsewhere",
                 {absl::StrCat("Location: http://", storage.Address(), "/data?sig=1")});
  }));
  const auto source = Open(server.Address());
  const Fetched fetched = Fetch(*source, BlobOf(content));
  EXPECT_TRUE(fetched.status.ok()) << fetched.status;
  EXPECT_EQ(fetched.bytes, content);
  EXPECT_EQ(storage.requests()[0].target, "/data?sig=1");
  EXPECT_EQ(storage.requests()[0].Header("Authorization"), "");
}

TEST(RegistryTest, ARedirectWithinTheRegistryKeepsTheToken) {
  const std::string content = "layer bytes";
  ScriptedServer server(Guarded("t0ken", "", [&](const SeenRequest& request) {
    return request.target == "/moved" ? Reply(200, content) : Reply(302, "", {"Location: /moved"});
  }));
  EXPECT_EQ(Fetch(*Open(server.Address()), BlobOf(content)).bytes, content);
}

TEST(RegistryTest, RedirectsWithoutEndAreRefused) {
  ScriptedServer server([](const SeenRequest&) { return Reply(302, "", {"Location: /again"}); });
  ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kDataLoss,
                "without end");
  EXPECT_EQ(server.requests().size(), 11u);
}

TEST(RegistryTest, RedirectsToOtherSchemesAreRefused) {
  for (const char* location : {"file:///etc/passwd", "ftp://h/", "http://u:p@h/"}) {
    ScriptedServer server(
        [&](const SeenRequest&) { return Reply(302, "", {absl::StrCat("Location: ", location)}); });
    ExpectFailure(Open(server.Address())->Resolve().status(), absl::StatusCode::kDataLoss,
                  "redirects");
  }
}

TEST(RegistryTest, ErrorBodiesNeverReachTheSink) {
  for (const int status : {400, 401, 403, 404, 416, 429, 500, 503, 206}) {
    ScriptedServer server([&](const SeenRequest&) { return Reply(status, "<html>error</html>"); });
    RegistryOptions options = Quick();
    options.attempts = 1;
    const Fetched fetched = Fetch(*Open(server.Address(), options), BlobOf("<html>error</html>"));
    EXPECT_FALSE(fetched.status.ok()) << status;
    EXPECT_EQ(fetched.bytes, "") << status;
  }
}

TEST(RegistryTest, ABrokenTransferGoesOnWhereItStopped) {
  const std::string content = "0123456789abcdef";
  ScriptedServer server([&](const SeenRequest& request) {
    if (request.Header("Range").empty()) {
      ScriptedReply reply = Reply(200, content);
      reply.bytes.resize(reply.bytes.size() - 6);
      reply.close = true;
      return reply;
    }
    return Reply(206, content.substr(10), {"Content-Range: bytes 10-15/16"});
  });
  const Fetched fetched = Fetch(*Open(server.Address()), BlobOf(content));
  EXPECT_TRUE(fetched.status.ok()) << fetched.status;
  EXPECT_EQ(fetched.bytes, content);
  EXPECT_EQ(server.requests()[1].Header("Range"), "bytes=10-");
}

TEST(RegistryTest, AServerWithoutRangesIsReadFromItsStart) {
  const std::string content = "0123456789abcdef";
  ScriptedServer server([&](const SeenRequest&) { return Reply(200, content); });
  const Fetched fetched = Fetch(*Open(server.Address()), BlobOf(content), 10);
  EXPECT_TRUE(fetched.status.ok()) << fetched.status;
  EXPECT_EQ(fetched.bytes, "abcdef");
}

TEST(RegistryTest, AnotherRangeThanAskedForIsRefused) {
  const std::string content = "0123456789abcdef";
  for (const char* range :
       {"bytes 9-15/16", "bytes 10-14/16", "bytes 10-15/17", "10-15/16", "bytes x-y/z", ""}) {
    ScriptedServer server([&](const SeenRequest&) {
      return Reply(206, content.substr(10), {absl::StrCat("Content-Range: ", range)});
    });
    const Fetched fetched = Fetch(*Open(server.Address()), BlobOf(content), 10);
    EXPECT_EQ(fetched.status.code(), absl::StatusCode::kDataLoss) << range;
    EXPECT_EQ(fetched.bytes, "");
  }
}

TEST(RegistryTest, AnotherLengthThanTheManifestsIsRefused) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, "much longer than that"); });
  const Fetched fetched = Fetch(*Open(server.Address()), BlobOf("short"));
  ExpectFailure(fetched.status, absl::StatusCode::kDataLoss, "another length");
  EXPECT_EQ(fetched.bytes, "");
}

TEST(RegistryTest, AChunkedBlobThatIsTooLongOrTooShortIsRefused) {
  const auto serve = [](const std::string& body) {
    return [=](const SeenRequest& request) {
      ScriptedReply reply;
      reply.bytes = request.Header("Range").empty()
                        ? absl::StrCat("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                       absl::Hex(body.size()), "\r\n", body, "\r\n0\r\n\r\n")
                        : Reply(416, "").bytes;
      return reply;
    };
  };
  ScriptedServer longer(serve("123456"));
  EXPECT_EQ(Fetch(*Open(longer.Address()), BlobOf("12345")).status.code(),
            absl::StatusCode::kDataLoss);
  ScriptedServer shorter(serve("1234"));
  const Fetched fetched = Fetch(*Open(shorter.Address()), BlobOf("12345"));
  EXPECT_FALSE(fetched.status.ok());
  EXPECT_EQ(fetched.bytes, "1234");
}

TEST(RegistryTest, AWholeBlobNeedsNoRequest) {
  ScriptedServer server([](const SeenRequest&) { return Reply(500, ""); });
  const auto source = Open(server.Address());
  EXPECT_TRUE(Fetch(*source, BlobOf("12345"), 5).status.ok());
  EXPECT_EQ(Fetch(*source, BlobOf("12345"), 6).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(server.requests().empty());
}

TEST(RegistryTest, TheSinksErrorComesBackAtOnce) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, "12345"); });
  const absl::Status mine = absl::UnavailableError("the content store is gone");
  EXPECT_EQ(
      Open(server.Address())->ReadBlob(BlobOf("12345"), 0, [&](absl::string_view) { return mine; }),
      mine);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST(RegistryTest, AConnectionThatWentStaleIsReplaced) {
  ScriptedServer server([](const SeenRequest&) {
    ScriptedReply reply = Reply(200, kManifest, {kTypeHeader});
    reply.close = true;  // without having said so in a header
    return reply;
  });
  RegistryOptions options = Quick();
  options.attempts = 1;
  const auto source = Open(server.Address(), options);
  EXPECT_TRUE(source->Resolve().ok());
  EXPECT_TRUE(Fetch(*source, BlobOf(kManifest)).status.ok());
}

TEST(RegistryTest, LocalhostMeansTheGatewayWhenThereIsOne) {
  ScriptedServer server([](const SeenRequest&) { return Reply(200, kManifest, {kTypeHeader}); });
  RegistryOptions options = Quick();
  options.host_gateway = "127.0.0.2";  // nobody listens there
  options.attempts = 1;
  EXPECT_EQ(Open(server.Address(), options)->Resolve().status().code(),
            absl::StatusCode::kUnavailable);
  options.host_gateway = "127.0.0.1";
  const std::string name = absl::StrCat("localhost:", server.port());
  EXPECT_TRUE(Open(name, options)->Resolve().ok());
  EXPECT_EQ(server.requests()[0].Header("Host"), name);
}

TEST(RegistryTest, OtherHostsAreSpokenToInTls) {
  // 0.0.0.0 reaches the same server, and is not among the loopback addresses.
  ScriptedServer server([](const SeenRequest&) { return Reply(200, kManifest, {kTypeHeader}); });
  RegistryOptions options = Quick();
  options.attempts = 1;
  const std::string address = absl::StrCat("0.0.0.0:", server.port());
  EXPECT_FALSE(Open(address, options)->Resolve().ok());
  options.plain_http = {address};
  EXPECT_TRUE(Open(address, options)->Resolve().ok());
}

}  // namespace
}  // namespace vibe::oci
