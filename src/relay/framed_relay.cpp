#include "relay/framed_relay.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "relay/frame.h"
#include "relay/stream_socket.h"

namespace vibe::relay {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Often enough that the other end, whose window is four times this, need not wait.
constexpr size_t kSayTakenAt = kWindowBytes / 4;
static_assert(kFrameHeaderBytes + kWindowBytes <= kScratchBytes);

// Bytes that wait for a socket; no memory while there are none.
class Waiting {
 public:
  bool empty() const { return bytes_.empty(); }
  absl::string_view front() const { return absl::string_view(bytes_).substr(begin_); }

  void Append(absl::string_view more) {
    if (begin_ > bytes_.size() / 2) {
      bytes_.erase(0, std::exchange(begin_, 0));
    }
    bytes_.append(more.data(), more.size());
  }

  void Consume(size_t count) {
    begin_ += count;
    if (begin_ == bytes_.size()) {
      Clear();
    }
  }

  void Clear() {
    std::string().swap(bytes_);
    begin_ = 0;
  }

 private:
  std::string bytes_;
  size_t begin_ = 0;
};

// All of it happens on the context's one thread.
class FramedPair : public std::enable_shared_from_this<FramedPair> {
 public:
  FramedPair(asio::io_context& context, std::shared_ptr<Traffic> traffic,
             std::function<void()> done)
      : context_(context),
        socket_(context),
        stream_(context),
        traffic_(traffic ? std::move(traffic) : std::make_shared<Traffic>()),
        done_(std::move(done)) {}

  void Start(UniqueFd socket, UniqueFd stream) {
    const error_code no_socket = Assign(socket_, std::move(socket));
    if (Assign(stream_, std::move(stream)) || no_socket) {
      asio::post(context_, [self = shared_from_this()] { self->Break(); });
      return;
    }
    Read();
    Hear();
  }

  // The socket's peer is gone: that of the other end shall hear of it as well.
  void Reset() {
    if (!over_) {
      ResetSocket();
      Say(FrameKind::kReset, 0);
      Settle();
    }
  }

 private:
  // ---- from the socket to the stream

  void Read() {
    if (reading_) {
      return;
    }
    for (size_t moved = 0; moved < kBytesPerTurn;) {
      if (over_ || deaf_ || said_end_) {
        return;
      }
      if (!out_.empty() || window_ == 0) {
        Watch();
        return;
      }
      error_code error;
      char* const payload = Scratch() + kFrameHeaderBytes;
      const size_t count = socket_.read_some(asio::buffer(payload, window_), error);
      if (WouldBlock(error)) {
        AwaitBytes();
        return;
      }
      if (error == asio::error::eof) {
        said_end_ = true;
        Say(FrameKind::kEnd, 0);
        Watch();
        Settle();
        return;
      }
      if (error) {
        Reset();
        return;
      }
      window_ -= count;
      traffic_->from_a.fetch_add(count, std::memory_order_relaxed);
      WriteFrameHeader(FrameKind::kData, count, Scratch());
      Send(absl::string_view(Scratch(), kFrameHeaderBytes + count));
      moved += count;
    }
    reading_ = true;
    asio::post(context_, [self = shared_from_this()] {
      self->reading_ = false;
      self->Read();
    });
  }

  void AwaitBytes() {
    reading_ = true;
    socket_.async_wait(StreamSocket::wait_read,
                       [self = shared_from_this()](const error_code& error) {
                         if (!error) {
                           self->reading_ = false;
                           self->Read();
                         }
                       });
  }

  // While nobody reads from the socket a reset would go unseen.
  void Watch() {
    if (watched_ || over_) {
      return;
    }
    watched_ = true;
    socket_.async_wait(StreamSocket::wait_error,
                       [self = shared_from_this()](const error_code& error) {
                         if (!error && !self->over_) {
                           self->watched_ = false;
                           self->OnException();
                         }
                       });
  }

  void OnException() {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      Reset();
    }
  }

  void Say(FrameKind kind, size_t count) {
    char header[kFrameHeaderBytes];
    WriteFrameHeader(kind, count, header);
    Send(absl::string_view(header, sizeof header));
  }

  void Send(absl::string_view bytes) {
    if (out_.empty()) {
      bytes.remove_prefix(Write(bytes));
    }
    if (!bytes.empty() && !deaf_) {
      out_.Append(bytes);
      AwaitRoom();
    }
  }

  size_t Write(absl::string_view bytes) {
    if (deaf_ || bytes.empty()) {
      return 0;
    }
    error_code error;
    const size_t count = stream_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
    if (error && !WouldBlock(error)) {
      // The other end's last words may still be there to be heard.
      deaf_ = true;
      out_.Clear();
      return 0;
    }
    return count;
  }

  void AwaitRoom() {
    if (std::exchange(flushing_, true)) {
      return;
    }
    stream_.async_wait(StreamSocket::wait_write,
                       [self = shared_from_this()](const error_code& error) {
                         self->flushing_ = false;
                         if (!error) {
                           self->Flush();
                         }
                       });
  }

  void Flush() {
    if (const size_t count = Write(out_.front()); !out_.empty()) {
      out_.Consume(count);
    }
    if (!out_.empty()) {
      AwaitRoom();
      return;
    }
    Settle();
    Read();
  }

  // ---- from the stream to the socket

  // Always goes on until the stream ends: that, and what is said, must be heard.
  void Hear() {
    for (size_t moved = 0; moved < kBytesPerTurn;) {
      if (closed_) {
        return;
      }
      error_code error;
      const size_t count = stream_.read_some(asio::buffer(Scratch(), kScratchBytes), error);
      if (WouldBlock(error)) {
        stream_.async_wait(StreamSocket::wait_read,
                           [self = shared_from_this()](const error_code& failed) {
                             if (!failed) {
                               self->Hear();
                             }
                           });
        return;
      }
      if (error) {
        HearClose();
        return;
      }
      if (!Understand(absl::string_view(Scratch(), count))) {
        Break();
        return;
      }
      moved += count;
      Settle();
      Read();  // into the scratch: only now
    }
    asio::post(context_, [self = shared_from_this()] { self->Hear(); });
  }

  // Whether it makes sense. What comes when all is over is only checked, which bounds it.
  bool Understand(absl::string_view bytes) {
    FrameReader::Frame frame;
    FrameReader::Found found;
    while ((found = reader_.Next(bytes, frame)) == FrameReader::Found::kFrame) {
      switch (frame.kind) {
        case FrameKind::kData:
          if (frame.payload.size() > allowed_) {
            return false;
          }
          allowed_ -= frame.payload.size();
          Give(frame.payload);
          break;
        case FrameKind::kTaken:
          if (frame.count > kWindowBytes - window_) {
            return false;
          }
          window_ += frame.count;
          break;
        case FrameKind::kEnd:
          heard_end_ = true;
          PassEnd();
          break;
        case FrameKind::kReset:
          ResetSocket();
          out_.Clear();
          break;
      }
    }
    return found == FrameReader::Found::kNothing;
  }

  void Give(absl::string_view payload) {
    if (in_.empty()) {
      payload.remove_prefix(Pass(payload));
    }
    if (!over_ && !payload.empty()) {
      in_.Append(payload);
      AwaitReader();
    }
  }

  size_t Pass(absl::string_view bytes) {
    if (over_) {
      return 0;
    }
    error_code error;
    const size_t count = socket_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
    if (error && !WouldBlock(error)) {
      Reset();
      return 0;
    }
    traffic_->from_b.fetch_add(count, std::memory_order_relaxed);
    taken_ += count;
    if (taken_ >= kSayTakenAt && !heard_end_) {
      allowed_ += taken_;
      Say(FrameKind::kTaken, std::exchange(taken_, 0));
    }
    return count;
  }

  void AwaitReader() {
    if (std::exchange(giving_, true)) {
      return;
    }
    socket_.async_wait(StreamSocket::wait_write,
                       [self = shared_from_this()](const error_code& error) {
                         self->giving_ = false;
                         if (!error) {
                           self->GiveWaiting();
                         }
                       });
  }

  void GiveWaiting() {
    const size_t count = Pass(in_.front());
    if (over_) {
      return;
    }
    in_.Consume(count);
    if (!in_.empty()) {
      AwaitReader();
      return;
    }
    PassEnd();
    Settle();
  }

  void PassEnd() {
    if (over_ || !heard_end_ || !in_.empty()) {
      return;
    }
    error_code error;
    socket_.shutdown(StreamSocket::shutdown_send, error);
    if (error && !said_end_) {
      Reset();
    }
  }

  // ---- the end

  bool AllIsSaid() const { return said_end_ && heard_end_ && out_.empty() && !deaf_; }

  void HearClose() {
    heard_close_ = true;
    if (!AllIsSaid()) {
      ResetSocket();
    }
    out_.Clear();
    Settle();
  }

  void ResetSocket() {
    if (std::exchange(over_, true)) {
      return;
    }
    if (socket_.is_open()) {
      ResetOnClose(socket_.native_handle());
    }
    CloseSocket();
  }

  void CloseSocket() {
    error_code ignored;
    socket_.close(ignored);
    in_.Clear();
  }

  // When the connection is over and the other end knows, the stream is ended; its other end does
  // the same, and then it is closed. A close at once would take from it what it has not read yet.
  void Settle() {
    if (!over_ && said_end_ && heard_end_ && in_.empty()) {
      over_ = true;
      CloseSocket();
    }
    if (!over_ || closed_) {
      return;
    }
    if (heard_close_) {
      Close();
    } else if (out_.empty() && !std::exchange(shut_, true)) {
      error_code ignored;
      stream_.shutdown(StreamSocket::shutdown_send, ignored);
    }
  }

  void Break() {
    ResetSocket();
    if (stream_.is_open()) {
      ResetOnClose(stream_.native_handle());
    }
    Close();
  }

  void Close() {
    if (std::exchange(closed_, true)) {
      return;
    }
    error_code ignored;
    stream_.close(ignored);
    out_.Clear();
    if (done_) {
      std::exchange(done_, nullptr)();
    }
  }

  asio::io_context& context_;
  StreamSocket socket_, stream_;
  const std::shared_ptr<Traffic> traffic_;
  std::function<void()> done_;

  Waiting out_;  // frames for the stream; nothing is read from the socket meanwhile
  size_t window_ = kWindowBytes;  // what the other end still takes
  bool said_end_ = false;         // of the socket's data
  bool deaf_ = false;             // the stream takes nothing any more

  FrameReader reader_;
  Waiting in_;                     // payload for the socket, at most kWindowBytes
  size_t allowed_ = kWindowBytes;  // what the other end may still send
  size_t taken_ = 0;               // passed to the socket, and not said so yet
  bool heard_end_ = false;

  bool reading_ = false, watched_ = false, giving_ = false, flushing_ = false;  // waits are pending
  bool over_ = false;         // the socket is closed
  bool shut_ = false;         // the stream was ended
  bool heard_close_ = false;  // by the other end
  bool closed_ = false;
};

}  // namespace

EndRelay StartFramedRelay(asio::io_context& context, UniqueFd socket, UniqueFd stream,
                          std::shared_ptr<Traffic> traffic, std::function<void()> done) {
  const auto pair = std::make_shared<FramedPair>(context, std::move(traffic), std::move(done));
  pair->Start(std::move(socket), std::move(stream));
  return [weak = std::weak_ptr<FramedPair>(pair)] {
    if (const auto still = weak.lock()) {
      still->Reset();
    }
  };
}

}  // namespace vibe::relay
