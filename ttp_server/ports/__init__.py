"""What the TTP's use cases need from the outside, as small promises that fakes can keep too."""
