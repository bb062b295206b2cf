#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "scaling/table.h"
#include "scratch_folder.h"

/// A scratch folder that takes tables as text.
class TemporaryFolder {
 public:
  std::filesystem::path path() const { return folder_.path; }
  std::filesystem::path write(const std::string& name, const std::string& content) const {
    const auto file = folder_ / name;
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }

 private:
  ScratchFolder folder_;
};

/// Published data beside the checkout; the file may be absent.
inline std::filesystem::path gemstones(const std::string& name) {
  const char* shared = std::getenv("ATTNSCALE_SHARED");
  const std::filesystem::path base = shared ? shared : ATTNSCALE_SOURCE_DIR "/../shared";
  return base / "data" / "gemstones" / name;
}

/// The surface of Hoffmann et al. 2022, equation (10), on a grid of sizes and tokens.
struct Surface {
  double E = 1.69, A = 406.4, B = 410.7, alpha = 0.34, beta = 0.28;
  double operator()(double N, double D) const { return E + A * std::pow(N, -alpha) + B * std::pow(D, -beta); }
};

/// Points of `surface` at each N, D and seed; `noise(i)` is added to point i.
template <class Noise>
std::vector<attnscale::Point> grid_points(const Surface& surface, const std::vector<double>& sizes,
                                          const std::vector<double>& tokens, int seeds, Noise noise) {
  std::vector<attnscale::Point> points;
  for (const double N : sizes)
    for (const double D : tokens)
      for (int seed = 0; seed < seeds; ++seed) {
        attnscale::Point point;
        point.run = "run" + std::to_string(points.size());
        point.N = N;
        point.D = D;
        point.seed = seed;
        point.L = surface(N, D) + noise(static_cast<int>(points.size()));
        points.push_back(point);
      }
  return points;
}

inline std::vector<double> column(const std::vector<attnscale::Point>& points, double attnscale::Point::*member) {
  std::vector<double> values;
  for (const auto& point : points) values.push_back(point.*member);
  return values;
}
