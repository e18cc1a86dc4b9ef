//! The machines together, in virtual time, and each against the RFC's sections.

mod path;
