"""Slow, obvious versions of pipeline/losses/mismatch.py: one pixel after the other."""

from torch import Tensor


def confusion_matrix(
    student_NHW: Tensor, teacher_NHW: Tensor, valid_NHW: Tensor, num_classes: int
) -> list[list[int]]:
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for student, teacher, valid in zip(
        student_NHW.flatten().tolist(),
        teacher_NHW.flatten().tolist(),
        valid_NHW.flatten().tolist(),
        strict=True,
    ):
        if valid:
            matrix[student][teacher] += 1
    return matrix


def class_mismatch_score(matrix: list[list[int]], diagonal_prior: int) -> list[float]:
    scores = []
    for q in range(len(matrix)):
        agreed = matrix[q][q] + diagonal_prior
        row = sum(matrix[q]) + diagonal_prior
        column = sum(line[q] for line in matrix) + diagonal_prior
        score = 0.0
        if row:
            score += (row - agreed) / row
        if column:
            score += (column - agreed) / column
        scores.append(score)
    return scores


def partition_pseudo_labels(
    student_NHW: Tensor, teacher_NHW: Tensor, score_C: Tensor, valid_NHW: Tensor
) -> list[str]:
    parts = []
    for student, teacher, valid in zip(
        student_NHW.flatten().tolist(),
        teacher_NHW.flatten().tolist(),
        valid_NHW.flatten().tolist(),
        strict=True,
    ):
        if not valid:
            parts.append("none")
        elif student == teacher:
            parts.append("consistent")
        elif score_C[student] < score_C[teacher]:
            parts.append("high")
        else:
            parts.append("low")
    return parts
