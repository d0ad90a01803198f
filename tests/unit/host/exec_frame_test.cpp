#include "host/exec_frame.h"

#include <gtest/gtest.h>

namespace vibe::host {
namespace {

TEST(ExecFrame, HasTypeLengthAndPayload) {
  EXPECT_EQ(EncodeFrame(2, "ab"), std::string("\x02\0\0\0\x02"
                                              "ab",
                                              7));
}

TEST(ExecFrame, ComesOutWhateverTheCutOfTheBytes) {
  const std::string bytes = EncodeFrame(0, "hello") + EncodeFrame(1, "") + EncodeFrame(3, "\x0f");
  for (size_t cut = 1; cut <= bytes.size(); ++cut) {
    FrameDecoder decoder;
    std::vector<Frame> frames;
    for (size_t begin = 0; begin < bytes.size(); begin += cut) {
      decoder.Append(bytes.substr(begin, cut));
      Frame frame;
      for (auto whole = decoder.Next(frame); whole.ok() && *whole; whole = decoder.Next(frame)) {
        frames.push_back(frame);
      }
    }
    ASSERT_EQ(frames.size(), 3u) << "pieces of " << cut;
    EXPECT_EQ(frames[0].payload, "hello");
    EXPECT_EQ(frames[1].type, 1);
    EXPECT_EQ(frames[2].payload, "\x0f");
  }
}

TEST(ExecFrame, ALengthOverTheLimitIsRefusedBeforeItsBytesCome) {
  FrameDecoder decoder;
  Frame frame;
  decoder.Append(std::string("\0\0\x10\0\0", 5));
  EXPECT_TRUE(decoder.Next(frame).ok()) << "exactly the limit is allowed";
  FrameDecoder other;
  other.Append(std::string("\0\0\x10\0\x01", 5));
  EXPECT_FALSE(other.Next(frame).ok());
  FrameDecoder huge;
  huge.Append(std::string("\0\xff\xff\xff\xff", 5));
  EXPECT_FALSE(huge.Next(frame).ok());
}

TEST(ExecFrame, NumbersAreBigEndian) {
  EXPECT_EQ(EncodeU32(0x01020304), "\x01\x02\x03\x04");
  const auto size = DecodeResize(std::string("\x01\x02\0\x28", 4));
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(size->columns, 0x0102);
  EXPECT_EQ(size->rows, 40);
  EXPECT_FALSE(DecodeResize("abc").ok());
  EXPECT_EQ(*DecodeSignal("\x0f"), 15);
  EXPECT_FALSE(DecodeSignal(std::string(1, '\0')).ok());
  EXPECT_FALSE(DecodeSignal("\x41").ok());
}

}  // namespace
}  // namespace vibe::host
