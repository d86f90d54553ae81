#pragma once

#include <optional>

#include "io/network.h"
#include "kernels/kernels.h"

// Activations that kernels apply to what they have just computed.
namespace packlight::runtime {

// What an activation's node does to F32 elements, where the kernels know it and its bounds are
// constants; nothing for any other node.
std::optional<kernels::Activation> activation_of(const io::Network& network,
                                                 const io::NetworkNode& node);

// The activation that was put into a node by fuse(), or none.
void set_fused_activation(const kernels::Activation& activation, io::NetworkNode& node);
kernels::Activation fused_activation(const io::NetworkNode& node);

}  // namespace packlight::runtime
