#include "report/vega_engine.h"

#include <chrono>

#include "report/vega_host.h"

#ifdef ATTNSCALE_QUICKJS
#include <quickjs.h>
#endif

// From third_party/vega_runtime.c.in: bytes of the files, each closed by a zero.
extern "C" const char attnscale_vega_script[], attnscale_vega_lite_script[], attnscale_vega_embed_script[],
    attnscale_vega_notice[];

namespace attnscale {

std::string_view vega_script() { return attnscale_vega_script; }
std::string_view vega_lite_script() { return attnscale_vega_lite_script; }
std::string_view vega_embed_script() { return attnscale_vega_embed_script; }
std::string_view vega_notice() { return attnscale_vega_notice; }

#ifdef ATTNSCALE_QUICKJS

using Clock = std::chrono::steady_clock;

struct VegaEngine::Engine {
  JSRuntime* runtime = JS_NewRuntime();
  JSContext* context = JS_NewContext(runtime);
  Clock::time_point deadline;

  ~Engine() {
    JS_FreeContext(context);
    JS_FreeRuntime(runtime);
  }

  std::string text_of(JSValue value) {
    const char* text = JS_ToCString(context, value);
    std::string result = text ? text : "(no message)";
    JS_FreeCString(context, text);
    JS_FreeValue(context, value);
    return result;
  }

  [[noreturn]] void fail(const std::string& what) {
    throw NumericsError("drawing a figure: " + what + ": " + text_of(JS_GetException(context)));
  }

  /// @param script  followed by a zero byte, as QuickJS requires
  void run(std::string_view script, const char* name) {
    const JSValue value = JS_Eval(context, script.data(), script.size(), name, JS_EVAL_TYPE_GLOBAL);
    if (JS_IsException(value)) fail(name);
    JS_FreeValue(context, value);
  }

  std::string global(const char* name) {
    const JSValue object = JS_GetGlobalObject(context);
    const JSValue value = JS_GetPropertyStr(context, object, name);
    JS_FreeValue(context, object);
    return text_of(value);
  }

  /// Works off what promises have queued.
  void run_jobs() {
    JSContext* at = nullptr;
    int state = 1;
    while ((state = JS_ExecutePendingJob(runtime, &at)) > 0) {
    }
    if (state < 0) fail("a promise");
  }
};

bool VegaEngine::available() { return true; }
std::string VegaEngine::why_not() { return ""; }

VegaEngine::VegaEngine() : engine_(std::make_unique<Engine>()) {
  Engine& engine = *engine_;
  JS_SetMemoryLimit(engine.runtime, size_t{1} << 30);
  JS_SetMaxStackSize(engine.runtime, size_t{4} << 20);
  JS_SetInterruptHandler(
      engine.runtime,
      [](JSRuntime*, void* self) { return Clock::now() > static_cast<Engine*>(self)->deadline ? 1 : 0; }, &engine);
  engine.deadline = Clock::now() + std::chrono::minutes(1);
  engine.run(vega_host_before(), "host");
  engine.run(vega_script(), "vega");
  engine.run(vega_lite_script(), "vega-lite");
  engine.run(vega_host_after(), "host");
}

VegaEngine::~VegaEngine() = default;

std::string VegaEngine::svg(const Json& spec, const Json& config) {
  Engine& engine = *engine_;
  engine.deadline = Clock::now() + std::chrono::minutes(1);
  const auto text = [](const Json& value) { return value.dump(-1, ' ', true, Json::error_handler_t::replace); };
  // JSON in ASCII is a JavaScript expression.
  const std::string call = "draw(" + text(spec) + "," + text(config) + ")";
  engine.run(call, "figure");
  engine.run_jobs();
  const std::string drawn = engine.global("drawn");
  if (drawn.empty()) throw NumericsError("drawing a figure: " + engine.global("trouble"));
  return drawn;
}

#else

struct VegaEngine::Engine {};

bool VegaEngine::available() { return false; }
std::string VegaEngine::why_not() {
  return "this program was built without QuickJS, which draws SVG files; configure the build with "
         "-DQUICKJS_DIR=FOLDER (QuickJS sources) or with access to PyPI";
}
VegaEngine::VegaEngine() { throw Error("no SVG: " + why_not(), ExitCode::usage); }
VegaEngine::~VegaEngine() = default;
std::string VegaEngine::svg(const Json&, const Json&) { return ""; }

#endif

}  // namespace attnscale
