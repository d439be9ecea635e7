//! Nothing of its own: the cases are programs, in the folder of each macro or type.
