// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Test} from "forge-std/Test.sol";

import {ActiveEpochs} from "../src/ActiveEpochs.sol";

/// @dev The window of bits against a plain table.
contract ActiveEpochsTest is Test {
    mapping(uint64 epoch => bool) private _table;

    function testFuzz_theWindowIsTheTable(uint8[12] calldata marks, uint64 cut) public {
        ActiveEpochs window;
        uint64 end = 0;
        for (uint256 i = 0; i < marks.length; ++i) {
            uint64 epoch = marks[i] % 160;
            if (end > 60 && epoch < end - 60) continue; // no sign of life is booked so late
            window = window.covered(epoch);
            if (epoch + 4 > end) end = epoch + 4;
            for (uint64 next = epoch; next < epoch + 4; ++next) {
                _table[next] = true;
            }
        }
        for (uint64 epoch = end > 64 ? end - 64 : 0; epoch < end + 70; ++epoch) {
            assertEq(window.covers(epoch), _table[epoch]);
        }
        if (end > 64) assertFalse(window.covers(end - 65)); // forgotten

        cut = uint64(bound(cut, 0, end + 5));
        ActiveEpochs rest = window.cutFrom(cut);
        for (uint64 epoch = end > 64 ? end - 64 : 0; epoch < end + 5; ++epoch) {
            assertEq(rest.covers(epoch), epoch < cut && _table[epoch]);
        }
    }
}
