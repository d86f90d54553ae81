#pragma once

#include "data/dataset.h"
#include "data/random.h"

namespace packlight::data {

// Random changes to a training picture, after preprocessing, applied in this order. What comes from
// outside is a black pixel. All zero: nothing is changed and no random number is drawn.
struct Augment {
  double flip = 0;  // probability of a mirror image (left to right), 0 .. 1
  int shift =
      0;  // pixels, >= 0: moved by a uniform whole number in [-shift, shift] down and across
  int crop_pad =
      0;  // pixels, >= 0: that many black ones added on every side, then a random cut of the old
          // size (as shift, named as the CIFAR recipes name it; the two may be combined)

  bool any() const { return flip > 0 || shift > 0 || crop_pad > 0; }
};

// Errors: InvalidArgument for values out of range.
void check_augment(const Augment& augment);

// Changes `picture` (F32, three dimensions as `format` says; Error InvalidArgument otherwise) in
// place. Draws, when the option is set: one unit() for flip; two between() for shift (down,
// across); two for crop_pad (top, left).
void apply_augment(const Augment& augment, const PictureFormat& format, Random& random,
                   Array& picture);

}  // namespace packlight::data
