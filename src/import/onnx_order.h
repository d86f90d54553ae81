#pragma once

#include <onnx/onnx_pb.h>

#include <string>
#include <vector>

namespace packlight::import {

// The nodes in an order in which each comes after those that make its inputs (those its subgraphs
// take from outside, too); the file's order where that works already. Errors: Corrupt naming a node
// and a value of a cycle.
std::vector<const onnx::NodeProto*> in_order(const std::vector<const onnx::NodeProto*>& nodes,
                                             const std::string& origin);

}  // namespace packlight::import
