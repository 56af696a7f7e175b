"""The capabilities that ship with loop-kit: one folder each, with its WIT and its provider in Python."""
