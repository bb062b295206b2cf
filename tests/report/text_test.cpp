#include <catch2/catch_test_macros.hpp>

#include "report/text.h"

using namespace attnscale;

TEST_CASE("readable: control characters, ANSI escapes and direction overrides cannot act on a terminal") {
  CHECK(readable("a\nb\tc") == "a b c");
  CHECK(readable("\x1b[31mred") == "\xEF\xBF\xBD[31mred");
  CHECK(readable("x\xC2\x9By") == "x\xEF\xBF\xBDy");                    // U+009B, a one-character escape opener
  CHECK(readable("x\xE2\x80\xAEy") == "x\xEF\xBF\xBDy");                // U+202E, right-to-left override
  CHECK(readable("\xC3\xA9 \xE2\x80\x93") == "\xC3\xA9 \xE2\x80\x93");  // é and – stay
  CHECK(readable("cut \xE2\x80") == "cut \xE2\x80");                    // a torn sequence does not read past the end
}

TEST_CASE("html_escape: no character that opens or closes markup or an attribute is left") {
  CHECK(html_escape("</script><img src=x onerror=\"a('&')\">") ==
        "&lt;/script&gt;&lt;img src=x onerror=&quot;a(&#39;&amp;&#39;)&quot;&gt;");
}

TEST_CASE("script_json: a value cannot close the script element, and reads back unchanged") {
  const Json value = {{"name", "</script><!-- & >"}};
  const std::string text = script_json(value);
  CHECK(text.find_first_of("<>&") == std::string::npos);
  CHECK(Json::parse(text) == value);
  CHECK(script_json(Json("\xff")) == "\"\xEF\xBF\xBD\"");
}

TEST_CASE("base64: the examples of RFC 4648 section 10") {
  CHECK(base64("").empty());
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foob") == "Zm9vYg==");
  CHECK(base64("fooba") == "Zm9vYmE=");
  CHECK(base64("foobar") == "Zm9vYmFy");
}

TEST_CASE("exact_text: the shortest digits that read back to the same double") {
  CHECK(exact_text(0.1) == "0.1");
  CHECK(exact_text(512000.0) == "512000");
  CHECK(exact_text(1e300) == "1e+300");
  for (const double value : {1.0 / 3, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2}) {
    CHECK(std::stod(exact_text(value)) == value);
  }
}
