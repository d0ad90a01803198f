#include "http/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::http {
namespace {

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(BIO_METHOD* method) const { BIO_meth_free(method); }
};

// What OpenSSL reads from and writes to. It waits in here, so OpenSSL never sees a socket that
// blocks, and a failure is kept as the Status that it was.
struct Transport {
  ByteStream* socket = nullptr;
  absl::Status failure;
};

int TransportRead(BIO* bio, char* buffer, int size) {
  auto* transport = static_cast<Transport*>(BIO_get_data(bio));
  const absl::StatusOr<size_t> count =
      transport->socket->ReadSome(buffer, static_cast<size_t>(size));
  if (!count.ok()) {
    transport->failure = count.status();
    return -1;
  }
  return static_cast<int>(*count);
}

int TransportWrite(BIO* bio, const char* buffer, int size) {
  auto* transport = static_cast<Transport*>(BIO_get_data(bio));
  const absl::StatusOr<size_t> count =
      transport->socket->WriteSome(buffer, static_cast<size_t>(size));
  if (!count.ok()) {
    transport->failure = count.status();
    return -1;
  }
  return static_cast<int>(*count);
}

long TransportControl(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

class TlsStream : public ByteStream {
 public:
  explicit TlsStream(ByteStream* socket) { transport_.socket = socket; }

  absl::Status Handshake(const std::string& host) {
    VIBE_RETURN_IF_ERROR(Prepare(host));
    ERR_clear_error();
    const int result = SSL_connect(ssl_.get());
    return result == 1 ? absl::OkStatus() : Failure(result);
  }

  absl::StatusOr<size_t> ReadSome(char* buffer, size_t size) override {
    ERR_clear_error();
    const int count =
        SSL_read(ssl_.get(), buffer, static_cast<int>(std::min<size_t>(size, INT_MAX)));
    if (count > 0) {
      return static_cast<size_t>(count);
    }
    if (SSL_get_error(ssl_.get(), count) == SSL_ERROR_ZERO_RETURN) {
      return 0;
    }
    return Failure(count);
  }

  absl::StatusOr<size_t> WriteSome(const char* buffer, size_t size) override {
    ERR_clear_error();
    const int count =
        SSL_write(ssl_.get(), buffer, static_cast<int>(std::min<size_t>(size, INT_MAX)));
    if (count > 0) {
      return static_cast<size_t>(count);
    }
    return Failure(count);
  }

 private:
  absl::Status Prepare(const std::string& host) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    method_.reset(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "vibe"));
    if (context_ == nullptr || method_ == nullptr ||
        SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_default_verify_paths(context_.get()) != 1) {
      return absl::FailedPreconditionError("TLS cannot be set up");
    }
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    BIO_meth_set_read(method_.get(), TransportRead);
    BIO_meth_set_write(method_.get(), TransportWrite);
    BIO_meth_set_ctrl(method_.get(), TransportControl);
    ssl_.reset(SSL_new(context_.get()));
    BIO* bio = BIO_new(method_.get());
    if (ssl_ == nullptr || bio == nullptr) {
      BIO_free(bio);
      return absl::FailedPreconditionError("TLS cannot be set up");
    }
    BIO_set_data(bio, &transport_);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);  // owned by ssl_ from here on
    return ExpectHost(host);
  }

  absl::Status ExpectHost(const std::string& host) {
    X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl_.get());
    if (X509_VERIFY_PARAM_set1_ip_asc(parameters, host.c_str()) == 1) {
      return absl::OkStatus();
    }
    ERR_clear_error();
    SSL_set_hostflags(ssl_.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl_.get(), host.c_str()) != 1 ||
        SSL_set_tlsext_host_name(ssl_.get(), host.c_str()) != 1) {
      return absl::FailedPreconditionError("TLS cannot check this host name");
    }
    return absl::OkStatus();
  }

  absl::Status Failure(int result) {
    if (!transport_.failure.ok()) {
      return transport_.failure;
    }
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified != X509_V_OK) {
      return absl::FailedPreconditionError(absl::StrCat("its TLS certificate is not trusted: ",
                                                        X509_verify_cert_error_string(verified)));
    }
    const unsigned long code = ERR_peek_error();
    if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_SYSCALL ||
        ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      return absl::UnavailableError("the connection was closed");
    }
    const char* reason = ERR_reason_error_string(code);
    return absl::FailedPreconditionError(
        absl::StrCat("TLS failed: ", reason == nullptr ? "unknown cause" : reason));
  }

  Transport transport_;
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<BIO_METHOD, Free> method_;  // used by ssl_'s BIO, so freed after it
  std::unique_ptr<SSL, Free> ssl_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteStream>> StartTls(ByteStream* socket, const std::string& host) {
  auto stream = std::make_unique<TlsStream>(socket);
  VIBE_RETURN_IF_ERROR(stream->Handshake(host));
  return std::unique_ptr<ByteStream>(std::move(stream));
}

}  // namespace vibe::http
