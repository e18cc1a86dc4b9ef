//! The tunnel router: map-cache, ITR, ETR.
