"""`advlora evaluate` and `advlora compare`: one model under one protocol is one record; two records are compared."""

from advlora_platform.measure.comparison import Comparison, compare_records
from advlora_platform.measure.protocols import protocol_hash, read_protocol
from advlora_platform.measure.record import EvaluationRecord, read_record, record_file, write_record
from advlora_platform.measure.reference import load_subject
from advlora_platform.measure.run import Evaluation
from advlora_platform.measure.subject import Subject

__all__ = [
    "Comparison",
    "Evaluation",
    "EvaluationRecord",
    "Subject",
    "compare_records",
    "load_subject",
    "protocol_hash",
    "read_protocol",
    "read_record",
    "record_file",
    "write_record",
]
