#include "relay/relay.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <memory>
#include <string>
#include <utility>

#include "relay/stream_socket.h"

namespace vibe::relay {
namespace {

namespace asio = boost::asio;
using Socket = StreamSocket;
using boost::system::error_code;

constexpr size_t kLeastRead = 64 << 10;
static_assert(kBufferBytes <= kScratchBytes);

// A unix socket has no reset: a peer that died looks like one that ended its sending. Linux tells
// them apart, since only a full close hangs up both directions.
bool PeerIsGone(int fd, sa_family_t family) {
#ifdef __linux__
  pollfd entry{fd, 0, 0};
  return family == AF_UNIX && ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLHUP) != 0;
#else
  (void)fd;
  (void)family;
  return false;
#endif
}

// All of it happens on the context's one thread.
class Pair : public std::enable_shared_from_this<Pair> {
 public:
  Pair(asio::io_context& context, std::shared_ptr<Traffic> traffic, std::function<void()> done)
      : context_(context),
        sides_{Side(context), Side(context)},
        traffic_(traffic ? std::move(traffic) : std::make_shared<Traffic>()),
        done_(std::move(done)) {}

  void Start(UniqueFd a, UniqueFd b) {
    if (!Assign(sides_[0], std::move(a)) || !Assign(sides_[1], std::move(b))) {
      asio::post(context_, [self = shared_from_this()] { self->Abort(); });
      return;
    }
    Pump(0);
    Pump(1);
  }

  void End() { Abort(); }

 private:
  // A socket, and the direction that starts at it.
  struct Side {
    explicit Side(asio::io_context& context) : socket(context) {}
    Socket socket;
    sa_family_t family = AF_UNSPEC;
    std::string pending;  // read, and from `begin` on not yet written to the other side
    size_t begin = 0;
    size_t read_size = kLeastRead;  // at once: about what the other side took lately
    bool finished = false;          // its end of stream has been passed on
    bool watched = false;           // a wait for errors is pending
  };

  static bool Assign(Side& side, UniqueFd fd) {
    side.family = FamilyOf(fd.get());
    return !relay::Assign(side.socket, std::move(fd));
  }

  void Pump(int from) {
    Side& source = sides_[from];
    for (size_t moved = 0; moved < kBytesPerTurn;) {
      if (closed_ || source.finished || (!source.pending.empty() && !Flush(from))) {
        return;
      }
      error_code error;
      const size_t count =
          source.socket.read_some(asio::buffer(Scratch(), source.read_size), error);
      if (WouldBlock(error)) {
        Await(source.socket, Socket::wait_read, from);
        return;
      }
      if (error) {
        error == asio::error::eof ? Finish(from) : Abort();
        return;
      }
      if (!Pass(from, Scratch(), count)) {
        return;
      }
      moved += count;
    }
    asio::post(context_, [self = shared_from_this(), from] { self->Pump(from); });
  }

  // Whether all was written. If not, what comes next is arranged for already. What a read takes
  // beyond what can be written is copied once more, so the one follows the other.
  bool Pass(int from, const char* bytes, size_t size) {
    Side& source = sides_[from];
    const size_t count = Write(from, bytes, size);
    if (closed_) {
      return false;
    }
    if (count == size) {
      if (size == source.read_size) {
        source.read_size = std::min(2 * size, kBufferBytes);
      }
      return true;
    }
    source.read_size = std::max(count, kLeastRead);
    source.pending.assign(bytes + count, size - count);
    source.begin = 0;
    AwaitRoom(from);
    return false;
  }

  bool Flush(int from) {
    Side& source = sides_[from];
    source.begin +=
        Write(from, source.pending.data() + source.begin, source.pending.size() - source.begin);
    if (closed_) {
      return false;
    }
    if (source.begin < source.pending.size()) {
      AwaitRoom(from);
      return false;
    }
    std::string().swap(source.pending);
    return true;
  }

  size_t Write(int from, const char* bytes, size_t size) {
    error_code error;
    const size_t count = sides_[1 - from].socket.write_some(asio::buffer(bytes, size), error);
    if (error && !WouldBlock(error)) {
      Abort();
      return 0;
    }
    (from == 0 ? traffic_->from_a : traffic_->from_b).fetch_add(count, std::memory_order_relaxed);
    return count;
  }

  void AwaitRoom(int from) {
    Watch(from);  // nobody reads from the source now, so a reset there would go unseen
    Await(sides_[1 - from].socket, Socket::wait_write, from);
  }

  void Finish(int from) {
    Side& source = sides_[from];
    Side& target = sides_[1 - from];
    if (!target.finished && PeerIsGone(source.socket.native_handle(), source.family)) {
      Abort();
      return;
    }
    source.finished = true;
    error_code error;
    target.socket.shutdown(Socket::shutdown_send, error);
    if (target.finished) {
      Close();
    } else if (error) {
      Abort();
    } else {
      Watch(from);
    }
  }

  void Await(Socket& socket, Socket::wait_type what, int from) {
    socket.async_wait(what, [self = shared_from_this(), from](const error_code& error) {
      if (!error) {
        self->Pump(from);
      }
    });
  }

  void Watch(int side) {
    Side& watched = sides_[side];
    if (watched.watched) {
      return;
    }
    watched.watched = true;
    watched.socket.async_wait(Socket::wait_error,
                              [self = shared_from_this(), side](const error_code& error) {
                                if (!error && !self->closed_) {
                                  self->sides_[side].watched = false;
                                  self->OnException(side);
                                }
                              });
  }

  void OnException(int side) {
    Side& seen = sides_[side];
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(seen.socket.native_handle(), SOL_SOCKET, SO_ERROR, &error, &size);
    // What a vanished peer had sent is still delivered; Fill meets its end.
    const bool gone = seen.finished && PeerIsGone(seen.socket.native_handle(), seen.family);
    if (error != 0 || gone) {
      Abort();
    }
  }

  void Abort() {
    for (Side& side : sides_) {
      if (!closed_ && side.socket.is_open()) {
        ResetOnClose(side.socket.native_handle());
      }
    }
    Close();
  }

  void Close() {
    if (std::exchange(closed_, true)) {
      return;
    }
    for (Side& side : sides_) {
      error_code ignored;
      side.socket.close(ignored);
      std::string().swap(side.pending);
    }
    if (done_) {
      std::exchange(done_, nullptr)();
    }
  }

  asio::io_context& context_;
  std::array<Side, 2> sides_;
  const std::shared_ptr<Traffic> traffic_;
  std::function<void()> done_;
  bool closed_ = false;
};

}  // namespace

EndRelay StartRelay(asio::io_context& context, UniqueFd a, UniqueFd b,
                    std::shared_ptr<Traffic> traffic, std::function<void()> done) {
  const auto pair = std::make_shared<Pair>(context, std::move(traffic), std::move(done));
  pair->Start(std::move(a), std::move(b));
  return [weak = std::weak_ptr<Pair>(pair)] {
    if (const auto still = weak.lock()) {
      still->End();
    }
  };
}

void ResetAndClose(UniqueFd fd) {
  if (fd.valid()) {
    ResetOnClose(fd.get());
  }
}

}  // namespace vibe::relay
