#include "relay/relay.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <memory>
#include <utility>

namespace vibe::relay {
namespace {

namespace asio = boost::asio;
using Protocol = asio::generic::stream_protocol;
using Socket = Protocol::socket;
using boost::system::error_code;

// One direction moves this many buffers before it lets other connections run.
constexpr int kBuffersPerTurn = 16;

sa_family_t FamilyOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return address.ss_family;
}

bool CanReset(sa_family_t family) {
  return family == AF_INET || family == AF_INET6;
}

void LingerZero(int fd) {
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

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

// All members are touched on the strand that both sockets share.
class Pair : public std::enable_shared_from_this<Pair> {
 public:
  Pair(asio::io_context& context, std::function<void()> done)
      : strand_(asio::make_strand(context)),
        sides_{Side(strand_), Side(strand_)},
        done_(std::move(done)) {}

  void Start(UniqueFd a, UniqueFd b) {
    const bool assigned = Assign(sides_[0], std::move(a)) && Assign(sides_[1], std::move(b));
    asio::post(strand_, [self = shared_from_this(), assigned] {
      if (!assigned) {
        self->Abort();
        return;
      }
      self->Pump(0);
      self->Pump(1);
    });
  }

 private:
  // A socket, and the direction that starts at it.
  struct Side {
    explicit Side(const asio::strand<asio::io_context::executor_type>& strand) : socket(strand) {}
    Socket socket;
    sa_family_t family = AF_UNSPEC;
    std::unique_ptr<char[]> buffer;
    size_t begin = 0;  // bytes [begin, end) are read and not yet written to the other side
    size_t end = 0;
    bool finished = false;  // its end of stream has been passed on
    bool watched = false;   // a wait for errors is pending
  };

  static bool Assign(Side& side, UniqueFd fd) {
    error_code error;
    side.family = FamilyOf(fd.get());
    side.socket.assign(Protocol(side.family, 0), fd.get(), error);
    if (error) {
      return false;
    }
    fd.release();
    side.socket.non_blocking(true, error);
    return !error;
  }

  void Pump(int from) {
    Side& source = sides_[from];
    Side& target = sides_[1 - from];
    for (int turn = 0; turn < kBuffersPerTurn; ++turn) {
      if (closed_ || source.finished) {
        return;
      }
      if (source.begin == source.end && !Fill(from)) {
        return;
      }
      error_code error;
      source.begin += target.socket.write_some(
          asio::buffer(source.buffer.get() + source.begin, source.end - source.begin), error);
      if (error == asio::error::would_block || error == asio::error::try_again) {
        // Nobody reads from the source now, so a reset there would go unseen.
        Watch(from);
        Await(target.socket, Socket::wait_write, from);
        return;
      }
      if (error) {
        Abort();
        return;
      }
    }
    asio::post(strand_, [self = shared_from_this(), from] { self->Pump(from); });
  }

  // Whether there are bytes to write. If not, what comes next is arranged for already.
  bool Fill(int from) {
    Side& source = sides_[from];
    if (!source.buffer) {
      source.buffer.reset(new char[kBufferBytes]);
    }
    error_code error;
    source.begin = 0;
    source.end = source.socket.read_some(asio::buffer(source.buffer.get(), kBufferBytes), error);
    if (!error) {
      return true;
    }
    source.end = 0;
    source.buffer.reset();
    if (error == asio::error::would_block || error == asio::error::try_again) {
      Await(source.socket, Socket::wait_read, from);
    } else if (error == asio::error::eof) {
      Finish(from);
    } else {
      Abort();
    }
    return false;
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
      if (!closed_ && side.socket.is_open() && CanReset(side.family)) {
        LingerZero(side.socket.native_handle());
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
      side.buffer.reset();
    }
    if (done_) {
      std::exchange(done_, nullptr)();
    }
  }

  asio::strand<asio::io_context::executor_type> strand_;
  std::array<Side, 2> sides_;
  std::function<void()> done_;
  bool closed_ = false;
};

}  // namespace

void StartRelay(asio::io_context& context, UniqueFd a, UniqueFd b, std::function<void()> done) {
  std::make_shared<Pair>(context, std::move(done))->Start(std::move(a), std::move(b));
}

void ResetAndClose(UniqueFd fd) {
  if (fd.valid() && CanReset(FamilyOf(fd.get()))) {
    LingerZero(fd.get());
  }
}

}  // namespace vibe::relay
