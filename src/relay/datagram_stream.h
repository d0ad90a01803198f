// Datagrams over a stream: each is two bytes of length, big-endian, and its payload. One stream
// carries one flow, that is one client's datagrams to one port and the answers to them.
//
// Belongs to the thread that runs the context. As on any network, a datagram may be lost: those for
// which there is no room in the stream are dropped, so that a slow end costs no memory.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "relay/stream_socket.h"

namespace vibe::relay {

inline constexpr size_t kMaxDatagram = 65507;         // UDP's own limit over IPv4
inline constexpr size_t kMaxQueuedBytes = 256 << 10;  // of datagrams that wait for the stream

class DatagramStream : public std::enable_shared_from_this<DatagramStream> {
 public:
  using Sink = std::function<void(absl::string_view datagram)>;

  explicit DatagramStream(boost::asio::io_context& context);

  // Takes a connected stream and hears what comes. `ended` is called once, when the other end has
  // closed or said what makes no sense. Neither is called after Close.
  void Start(UniqueFd stream, Sink sink, std::function<void()> ended);
  // Whether it was taken.
  bool Send(absl::string_view datagram);
  void Close();

 private:
  void Hear();
  bool Parse();  // false: what came makes no sense, or a callback closed this
  void End();
  void Flush();

  StreamSocket socket_;
  std::shared_ptr<const Sink> sink_;
  std::function<void()> ended_;
  std::string in_, out_;
  bool flushing_ = false;  // a wait for room is pending
  bool open_ = false;
};

}  // namespace vibe::relay
