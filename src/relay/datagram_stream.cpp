#include "relay/datagram_stream.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace vibe::relay {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr size_t kLengthBytes = 2;
constexpr size_t kReadBytes = 64 << 10;
static_assert(kReadBytes <= kScratchBytes);
constexpr int kReadsPerTurn = 8;

size_t LengthAt(absl::string_view bytes) {
  return size_t{static_cast<unsigned char>(bytes[0])} << 8 | static_cast<unsigned char>(bytes[1]);
}

}  // namespace

DatagramStream::DatagramStream(asio::io_context& context) : socket_(context) {}

void DatagramStream::Start(UniqueFd stream, Sink sink, std::function<void()> ended) {
  sink_ = std::make_shared<const Sink>(std::move(sink));
  ended_ = std::move(ended);
  open_ = true;
  const error_code error = Assign(socket_, std::move(stream));
  asio::post(socket_.get_executor(), [self = shared_from_this(), failed = bool(error)] {
    failed ? self->End() : self->Hear();
  });
}

void DatagramStream::Hear() {
  for (int reads = 0; open_ && reads < kReadsPerTurn; ++reads) {
    error_code error;
    in_.append(Scratch(), socket_.read_some(asio::buffer(Scratch(), kReadBytes), error));
    if (WouldBlock(error)) {
      break;
    }
    if (error || !Parse()) {
      End();
      return;
    }
  }
  if (in_.empty()) {
    std::string().swap(in_);  // an idle flow holds no buffer
  }
  if (open_) {
    socket_.async_wait(StreamSocket::wait_read,
                       [self = shared_from_this()](const error_code& error) {
                         if (!error) {
                           self->Hear();
                         }
                       });
  }
}

bool DatagramStream::Parse() {
  const auto self = shared_from_this();  // a callback may close this
  const auto sink = sink_;
  absl::string_view left = in_;
  while (open_ && left.size() >= kLengthBytes) {
    const size_t length = LengthAt(left);
    if (length > kMaxDatagram) {
      return false;
    }
    if (left.size() < kLengthBytes + length) {
      break;
    }
    (*sink)(left.substr(kLengthBytes, length));
    left.remove_prefix(kLengthBytes + length);
  }
  in_.erase(0, in_.size() - left.size());
  return open_;
}

bool DatagramStream::Send(absl::string_view datagram) {
  if (!open_ || datagram.size() > kMaxDatagram ||
      out_.size() + kLengthBytes + datagram.size() > kMaxQueuedBytes) {
    return false;
  }
  out_.push_back(static_cast<char>(datagram.size() >> 8));
  out_.push_back(static_cast<char>(datagram.size() & 0xff));
  out_.append(datagram.data(), datagram.size());
  if (!flushing_) {
    Flush();
  }
  return true;
}

void DatagramStream::Flush() {
  flushing_ = false;
  while (open_ && !out_.empty()) {
    error_code error;
    const size_t count = socket_.write_some(asio::buffer(out_), error);
    if (WouldBlock(error)) {
      flushing_ = true;
      socket_.async_wait(StreamSocket::wait_write,
                         [self = shared_from_this()](const error_code& failed) {
                           if (!failed) {
                             self->Flush();
                           }
                         });
      return;
    }
    if (error) {
      // Not from here: the caller of Send may be in the middle of something.
      asio::post(socket_.get_executor(), [self = shared_from_this()] { self->End(); });
      return;
    }
    out_.erase(0, count);
  }
}

void DatagramStream::End() {
  if (!open_) {
    return;
  }
  const auto ended = std::move(ended_);
  Close();
  if (ended) {
    ended();
  }
}

void DatagramStream::Close() {
  open_ = false;
  error_code ignored;
  socket_.close(ignored);
  // What they hold may be what holds this.
  asio::post(socket_.get_executor(),
             [self = shared_from_this(), sink = std::move(sink_), ended = std::move(ended_)] {});
  sink_ = nullptr;
  ended_ = nullptr;
}

}  // namespace vibe::relay
