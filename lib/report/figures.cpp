#include "report/figures.h"

namespace attnscale {

Figures make_figures(const Sweep& sweep) {
  Figures figures;
  add_loss_against_parameters(sweep, figures);
  add_loss_against_flops(sweep, figures);
  add_loss_against_tokens(sweep, figures);
  add_excess(sweep, figures);
  add_irreducible_loss(sweep, figures);
  add_variants(sweep, figures);
  add_loss_by_position(sweep, figures);
  add_depth_width(sweep, figures);
  add_accuracy_against_state(sweep, figures);
  add_learning_curves(sweep, figures);
  add_watch(sweep, figures);
  return figures;
}

}  // namespace attnscale
