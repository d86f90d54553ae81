#pragma once

namespace packlight::cli {

// The largest resident memory of this process so far, in 10^6 bytes.
double peak_rss_mb();

}  // namespace packlight::cli
