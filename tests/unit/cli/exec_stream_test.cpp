#include "cli/exec_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "base/status.h"
#include "cli/error_text.h"

namespace vibe::cli {
namespace {

using host::ClientFrame;
using host::Frame;
using host::ServerFrame;

std::string ServerBytes(ServerFrame type, absl::string_view payload) {
  return host::EncodeFrame(static_cast<uint8_t>(type), payload);
}

// The other end of the connection: reads frames, writes frames.
class Peer {
 public:
  explicit Peer(UniqueFd fd) : fd_(std::move(fd)) {}

  void Write(const std::string& bytes) {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  Frame Next() {
    Frame frame;
    while (true) {
      const absl::StatusOr<bool> whole = decoder_.Next(frame);
      EXPECT_TRUE(whole.ok());
      if (!whole.ok() || *whole) {
        return frame;
      }
      char bytes[4096];
      const ssize_t count = ::recv(fd_.get(), bytes, sizeof bytes, 0);
      if (count <= 0) {
        ADD_FAILURE() << "the client went away";
        return frame;
      }
      decoder_.Append(absl::string_view(bytes, static_cast<size_t>(count)));
    }
  }
  Frame Next(ClientFrame type) {
    Frame frame = Next();
    EXPECT_EQ(frame.type, static_cast<uint8_t>(type));
    return frame;
  }
  void Close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  host::FrameDecoder decoder_;
};

class ExecStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    peer_ = std::make_unique<Peer>(UniqueFd(fds[1]));
    http::UpgradedStream stream;
    stream.fd.reset(fds[0]);
    stream.read_ahead = ServerBytes(ServerFrame::kStdout, "early ");
    absl::StatusOr<std::unique_ptr<ExecStream>> made = ExecStream::Make(std::move(stream));
    ASSERT_TRUE(made.ok());
    stream_ = *std::move(made);
    ASSERT_EQ(::pipe(fds), 0);
    input_.reset(fds[0]);
    typing_.reset(fds[1]);
  }

  ExecStream::Sink Sink() {
    return [this](ExecStream::Source source, absl::string_view bytes) {
      (source == ExecStream::Source::kStdout ? out_ : err_).append(bytes.data(), bytes.size());
      return absl::OkStatus();
    };
  }

  std::unique_ptr<Peer> peer_;
  std::unique_ptr<ExecStream> stream_;
  UniqueFd input_;
  UniqueFd typing_;
  std::string out_;
  std::string err_;
};

TEST_F(ExecStreamTest, CarriesInputOutputAndTheExitCode) {
  std::thread other([&] {
    EXPECT_EQ(peer_->Next(ClientFrame::kStdin).payload, "in");
    peer_->Next(ClientFrame::kCloseStdin);
    peer_->Write(ServerBytes(ServerFrame::kStdout, "out") +
                 ServerBytes(ServerFrame::kStderr, "err"));
    peer_->Write(ServerBytes(ServerFrame::kExitCode, host::EncodeU32(42)));
  });
  ASSERT_EQ(::write(typing_.get(), "in", 2), 2);
  typing_.reset();
  const absl::StatusOr<int> exit_code = stream_->Run(input_.get(), Sink());
  other.join();
  ASSERT_TRUE(exit_code.ok()) << exit_code.status();
  EXPECT_EQ(*exit_code, 42);
  EXPECT_EQ(out_, "early out");
  EXPECT_EQ(err_, "err");
}

TEST_F(ExecStreamTest, ClosesTheInputThatIsNotPassedOn) {
  std::thread other([&] {
    peer_->Next(ClientFrame::kCloseStdin);
    peer_->Write(ServerBytes(ServerFrame::kExitCode, host::EncodeU32(0)));
  });
  EXPECT_EQ(stream_->Run(-1, Sink()).value_or(-1), 0);
  other.join();
}

TEST_F(ExecStreamTest, SendsSignalsAndSizes) {
  std::thread other([&] {
    const Frame size = peer_->Next(ClientFrame::kResize);
    EXPECT_EQ(host::DecodeResize(size.payload)->columns, 300);
    EXPECT_EQ(host::DecodeResize(size.payload)->rows, 50);
    EXPECT_EQ(host::DecodeSignal(peer_->Next(ClientFrame::kSignal).payload).value_or(0), 2);
    peer_->Write(ServerBytes(ServerFrame::kExitCode, host::EncodeU32(130)));
  });
  stream_->SendSize({300, 50});
  stream_->SendSignal(SIGWINCH);  // is no signal of the command's
  stream_->SendSignal(SIGINT);
  EXPECT_EQ(stream_->Run(input_.get(), Sink()).value_or(-1), 130);
  other.join();
}

TEST_F(ExecStreamTest, MovesMoreThanBuffersHoldBothWays) {
  constexpr size_t kBytes = 8 << 20;
  std::thread typist([&] {
    const std::string chunk(64 << 10, 'x');
    for (size_t sent = 0; sent < kBytes; sent += chunk.size()) {
      ASSERT_EQ(::write(typing_.get(), chunk.data(), chunk.size()),
                static_cast<ssize_t>(chunk.size()));
    }
    typing_.reset();
  });
  std::thread other([&] {  // cat
    while (true) {
      const Frame frame = peer_->Next();
      if (frame.type != static_cast<uint8_t>(ClientFrame::kStdin)) {
        break;
      }
      peer_->Write(ServerBytes(ServerFrame::kStdout, frame.payload));
    }
    peer_->Write(ServerBytes(ServerFrame::kExitCode, host::EncodeU32(0)));
  });
  EXPECT_EQ(stream_->Run(input_.get(), Sink()).value_or(-1), 0);
  typist.join();
  other.join();
  EXPECT_EQ(out_.size(), kBytes + 6);
}

TEST_F(ExecStreamTest, PassesErrorsOn) {
  peer_->Write(
      ServerBytes(ServerFrame::kError,
                  R"({"code":"NOT_FOUND","message":"there is no command nano","service":"web"})"));
  const absl::Status status = stream_->Run(input_.get(), Sink()).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(ServiceOf(status), "web");
}

TEST_F(ExecStreamTest, SaysThatTheConnectionBroke) {
  peer_->Close();
  EXPECT_TRUE(absl::IsUnavailable(stream_->Run(input_.get(), Sink()).status()));
}

TEST_F(ExecStreamTest, RefusesFramesThatAreTooLong) {
  peer_->Write(std::string("\x01\x7f\xff\xff\xff", 5));
  EXPECT_TRUE(absl::IsDataLoss(stream_->Run(input_.get(), Sink()).status()));
}

TEST_F(ExecStreamTest, GivesUp) {
  std::thread other([&] { stream_->GiveUp(); });
  EXPECT_TRUE(IsInterrupted(stream_->Run(input_.get(), Sink()).status()));
  other.join();
}

TEST_F(ExecStreamTest, EndsWhenTheSinkFails) {
  const absl::Status full = absl::ResourceExhaustedError("full");
  EXPECT_EQ(stream_->Run(input_.get(), [&](auto, auto) { return full; }).status(), full);
}

}  // namespace
}  // namespace vibe::cli
