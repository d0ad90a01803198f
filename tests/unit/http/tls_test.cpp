#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "http/client.h"

namespace vibe::http {
namespace {

using ::testing::HasSubstr;

struct Free {
  void operator()(X509* x) const { X509_free(x); }
  void operator()(EVP_PKEY* x) const { EVP_PKEY_free(x); }
  void operator()(SSL_CTX* x) const { SSL_CTX_free(x); }
  void operator()(SSL* x) const { SSL_free(x); }
};

// A self-signed certificate for `name` ("DNS:localhost").
std::unique_ptr<X509, Free> MakeCertificate(EVP_PKEY* key, const char* name) {
  std::unique_ptr<X509, Free> certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), subject);
  for (const auto& [nid, value] :
       {std::pair<int, const char*>{NID_basic_constraints, "critical,CA:TRUE"},
        {NID_subject_alt_name, name}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(certificate.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate.get(), key, EVP_sha256());
  return certificate;
}

// Answers one connection over TLS with `answer`.
class TlsServer {
 public:
  TlsServer(const char* certified_name, std::string answer) : answer_(std::move(answer)) {
    key_.reset(EVP_EC_gen("P-256"));
    certificate_ = MakeCertificate(key_.get(), certified_name);
    listener_.reset(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    ::getsockname(listener_.get(), generic, &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }

  ~TlsServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  uint16_t port() const { return port_; }
  const std::string& server_name() const { return server_name_; }

  void WriteCertificate(const std::string& path) const {
    FILE* file = std::fopen(path.c_str(), "w");
    PEM_write_X509(file, certificate_.get());
    std::fclose(file);
  }

  void Join() {
    thread_.join();
    thread_ = std::thread([] {});
  }

 private:
  void Serve() {
    const UniqueFd fd(::accept(listener_.get(), nullptr, nullptr));
    if (!fd.valid()) {
      return;
    }
    const std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_use_certificate(context.get(), certificate_.get());
    SSL_CTX_use_PrivateKey(context.get(), key_.get());
    const std::unique_ptr<SSL, Free> ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), fd.get());
    if (SSL_accept(ssl.get()) != 1) {
      return;
    }
    if (const char* name = SSL_get_servername(ssl.get(), TLSEXT_NAMETYPE_host_name)) {
      server_name_ = name;
    }
    char request[4096];
    if (SSL_read(ssl.get(), request, sizeof request) > 0) {
      SSL_write(ssl.get(), answer_.data(), static_cast<int>(answer_.size()));
    }
  }

  std::string answer_;
  std::unique_ptr<EVP_PKEY, Free> key_;
  std::unique_ptr<X509, Free> certificate_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  std::string server_name_;
  std::thread thread_;
};

// SSL_CERT_FILE stands in for the system's roots.
class TlsTest : public ::testing::Test {
 protected:
  TlsTest() {
    std::signal(SIGPIPE, SIG_IGN);  // the server's side writes through OpenSSL's own socket code
    char name[] = "/tmp/vibe-tls-XXXXXX";
    directory_ = ::mkdtemp(name);
    roots_ = (directory_ / "roots.pem").string();
  }
  ~TlsTest() override {
    ::unsetenv("SSL_CERT_FILE");
    std::filesystem::remove_all(directory_);
  }

  void Trust(const TlsServer& server) {
    server.WriteCertificate(roots_);
    ::setenv("SSL_CERT_FILE", roots_.c_str(), 1);
  }

  static absl::StatusOr<std::unique_ptr<Connection>> Connect(const TlsServer& server,
                                                             const char* host) {
    Endpoint endpoint = Endpoint::Tls(host, server.port());
    endpoint.dial_address = "127.0.0.1";
    return Connection::Connect(endpoint, {absl::Seconds(5), absl::Seconds(5)});
  }

  std::filesystem::path directory_;
  std::string roots_;
};

TEST_F(TlsTest, ATrustedServerIsSpokenTo) {
  TlsServer server("DNS:registry.test", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
  Trust(server);
  const auto connection = Connect(server, "registry.test");
  ASSERT_TRUE(connection.ok()) << connection.status();
  ASSERT_EQ((*connection)->Send({}).value().status, 200);
  EXPECT_EQ((*connection)->ReadBody(100).value(), "secret");
  server.Join();
  EXPECT_EQ(server.server_name(), "registry.test");
}

TEST_F(TlsTest, AnAddressInTheCertificateIsEnough) {
  TlsServer server("IP:127.0.0.1", "");
  Trust(server);
  EXPECT_TRUE(Connect(server, "127.0.0.1").ok());
}

TEST_F(TlsTest, AnUnknownSignerIsRefused) {
  TlsServer server("DNS:registry.test", "");
  const absl::Status status = Connect(server, "registry.test").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not trusted"));
}

TEST_F(TlsTest, ACertificateForAnotherHostIsRefused) {
  TlsServer server("DNS:other.test", "");
  Trust(server);
  const absl::Status status = Connect(server, "registry.test").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("hostname mismatch"));
}

TEST_F(TlsTest, AStreamCutOffWithoutGoodbyeIsNoWholeBody) {
  TlsServer server("DNS:registry.test", "HTTP/1.1 200 OK\r\n\r\nthis may be ha");
  Trust(server);
  const auto connection = Connect(server, "registry.test");
  ASSERT_TRUE(connection.ok()) << connection.status();
  ASSERT_TRUE((*connection)->Send({}).ok());
  EXPECT_EQ((*connection)->ReadBody(100).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace vibe::http
