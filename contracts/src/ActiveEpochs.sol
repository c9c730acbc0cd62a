// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title ActiveEpochs
/// @notice The epochs for which one peer is active, in half a storage slot: a window of 64 epochs that ends before `end`
/// (the upper 64 bits), with one bit for each epoch (the lower 64, of which bit 0 is the last epoch of the window).
type ActiveEpochs is uint128;

using Window for ActiveEpochs global;

/// @dev A sign of life in an epoch covers that epoch and the three after it.
uint64 constant ACTIVE_EPOCHS = 4;

/// @title Window
/// @notice Reads and moves the window of `ActiveEpochs`.
library Window {
    /// @dev Whether the peer is active for `epoch`. Epochs older than the window are forgotten.
    function covers(ActiveEpochs self, uint64 epoch) internal pure returns (bool) {
        (uint64 end, uint64 bits) = _unpack(self);
        return epoch < end && (bits >> (end - 1 - epoch)) & 1 == 1;
    }

    /// @dev The window after a sign of life in `epoch`.
    function covered(ActiveEpochs self, uint64 epoch) internal pure returns (ActiveEpochs) {
        (uint64 end, uint64 bits) = _unpack(self);
        uint64 newEnd = epoch + ACTIVE_EPOCHS;
        if (newEnd < end) return _pack(end, bits | (uint64(0xF) << (end - newEnd)));
        return _pack(newEnd, (bits << (newEnd - end)) | 0xF);
    }

    /// @dev The window without `epoch` and all after it.
    function cutFrom(ActiveEpochs self, uint64 epoch) internal pure returns (ActiveEpochs) {
        (uint64 end, uint64 bits) = _unpack(self);
        return epoch < end ? _pack(epoch, bits >> (end - epoch)) : self;
    }

    /// @dev The remembered epochs: from `first` to the one before `end`.
    function window(ActiveEpochs self) internal pure returns (uint64 first, uint64 end) {
        (end,) = _unpack(self);
        first = end < 64 ? 0 : end - 64;
    }

    function _pack(uint64 end, uint64 bits) private pure returns (ActiveEpochs) {
        return ActiveEpochs.wrap((uint128(end) << 64) | bits);
    }

    function _unpack(ActiveEpochs self) private pure returns (uint64 end, uint64 bits) {
        uint128 word = ActiveEpochs.unwrap(self);
        return (uint64(word >> 64), uint64(word));
    }
}
